"""Gunicorn's face: hooks of the configuration file, and what they are given to look at.

Imported only by a server that has a hook, or by code that embeds one. No line of Gunicorn's is here.
"""
