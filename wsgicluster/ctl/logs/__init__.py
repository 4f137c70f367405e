"""The error log of a running server: where it is, its last records, and those that come."""
