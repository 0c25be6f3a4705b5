"""What charts are drawn from: the log of a search in columns, and figures computed from them."""
