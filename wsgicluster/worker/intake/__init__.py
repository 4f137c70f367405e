"""Which clients a worker accepts, hands off or refuses, and the drain, which leaves them all to siblings."""
