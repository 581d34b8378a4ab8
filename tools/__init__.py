"""What developers and CI use beside the package: the demo, an engine, a browser."""
