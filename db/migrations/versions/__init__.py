"""One file a schema version; they import nothing of the project, so that they stay as they are."""
