"""Events of the server, and the functions that are registered for them."""
