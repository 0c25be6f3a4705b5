"""REST: typed routes over read models and commands; nothing here decides a search."""
