"""The command that lists, watches and steers running servers: it finds one, asks its control socket, and prints."""
