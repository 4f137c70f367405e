"""What all processes share, as applications use it: counters, store, locks, and work that one does for all."""
