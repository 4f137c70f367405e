"""The arbiter: supervises workers, carries out what the operator wants, and runs no application code."""
