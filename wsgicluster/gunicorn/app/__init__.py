"""Classes that a program of Gunicorn's kind derives its own server from."""
