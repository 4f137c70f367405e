"""The arbiter: supervises workers, answers the operator, and runs no application code."""
