"""One client's connection: its states, receiving and sending, its preamble, and its end."""
