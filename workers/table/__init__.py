"""The tabular benchmark: a small search space trained in full once, to compare searches on it."""
