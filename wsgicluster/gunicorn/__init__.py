"""What configuration files and loggers that were written for Gunicorn import from it, in terms of this server.

Nothing on the path of a request imports this room, unless a setting asks for it.
"""
