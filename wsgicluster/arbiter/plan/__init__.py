"""The arbiter's decisions, pure: what is, what is wanted, and what follows; no process, no clock, no log."""
