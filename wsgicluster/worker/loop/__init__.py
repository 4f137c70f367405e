"""The event loop that a worker waits in, and the deadlines of what it waits for."""
