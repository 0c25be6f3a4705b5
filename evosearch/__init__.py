"""The search: what to try next, what to throw out, when to stop; and the public face."""
