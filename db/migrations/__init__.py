"""The schema's history; each file in ``versions`` is frozen once it is released."""
