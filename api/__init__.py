"""The ways in: the command line and what wires the rooms together; nothing here decides a search."""
