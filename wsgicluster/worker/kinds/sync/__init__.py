"""The sync worker: one request at a time, the usual ones on the fast path."""
