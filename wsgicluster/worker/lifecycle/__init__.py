"""A worker's life beside serving: state, signals, its arbiter, the request to exit, replacement, smoke test."""
