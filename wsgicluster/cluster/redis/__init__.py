"""Redis, for several machines: the shared state and the bus; the only room that imports the package."""
