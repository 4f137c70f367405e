"""The sockets that clients connect to: opened, inherited, added, and shut down."""
