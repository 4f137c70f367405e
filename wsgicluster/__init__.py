"""A WSGI application server: an arbiter, preforked workers, and what operators need to trust them."""

__version__ = "0.1.0"
