"""What was written for Gunicorn finds here: names that files import, hooks and what they are given, loggers, classes.

Imported where a setting or a file asks for it; nothing on the path of a request imports it else.
"""
