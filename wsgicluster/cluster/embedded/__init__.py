"""The shared state on one machine: files in memory that the arbiter has made, cells, record locks and SQLite."""
