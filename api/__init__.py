"""The ways in: command line and wiring of the rooms; nothing here decides a search."""
