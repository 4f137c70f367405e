"""What a service manager knows of a server: how it was started, its state, its pid file."""
