"""What code written for Gunicorn expects: its loggers. Imported only where a setting asks for it."""
