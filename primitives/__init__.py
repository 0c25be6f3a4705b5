"""The language of layers: what a layer is, means, is called, and how it becomes code."""
