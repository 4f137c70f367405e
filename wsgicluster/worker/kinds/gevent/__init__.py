"""The gevent worker: a greenlet for each request."""
