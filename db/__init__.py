"""The memory of searches: tables, migrations and stores; the only room that knows SQL."""
