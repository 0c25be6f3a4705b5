"""A search's report as a document: what stands in it, and how it is written down."""
