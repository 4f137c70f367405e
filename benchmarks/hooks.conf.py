"""Both hooks of a request, as a configuration file of Gunicorn's has them: it measures its time and counts it."""

import time

counts = {"requests": 0, "seconds": 0.0}


def pre_request(worker, req):
    """Note when the request began."""
    req.began = time.monotonic()


def post_request(worker, req, environ, resp):
    """Add what it took."""
    counts["requests"] += 1
    counts["seconds"] += time.monotonic() - req.began
