"""Bytes to and from one client: plain or by TLS, what waits to be sent, and how long that may take."""
