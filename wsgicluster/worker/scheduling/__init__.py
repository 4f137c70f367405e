"""Which worker a client belongs to by the setting ``scheduling``, and how its connection gets there."""
