"""The arbiter's child processes: how they are forked, signalled and reaped."""
