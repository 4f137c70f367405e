"""What the commands of the control socket do to this server, and where that socket is."""
