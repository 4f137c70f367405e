"""A WSGI application server: an arbiter, preforked workers, and what operators need to trust them."""

from wsgicluster.version import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wsgicluster.embedding import serve as serve


def __getattr__(name: str) -> object:
    if name == "serve":
        # Late: most who import the package want one room of it.
        from wsgicluster.embedding import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
