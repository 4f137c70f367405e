"""A Django project: a SQLite database, the admin and static files."""
