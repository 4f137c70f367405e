"""WSGI (PEP 3333): the application's side of a request, without sockets, settings or logs."""
