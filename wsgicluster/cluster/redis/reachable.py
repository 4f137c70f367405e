"""Whether what the settings name for the shared state can be used, found out before there is a worker."""

from wsgicluster.errors import UsageError
from wsgicluster.settings.types.general import without_passwords


def check_store(url: str | None) -> None:
    """Ask a Redis server at ``store`` for a sign of life. Raises UsageError when none responds."""
    if url is None:
        return
    shown = without_passwords(url)
    try:
        from wsgicluster.cluster.redis.connection import check_url
    except ImportError as error:
        raise UsageError(
            f"store: {shown} needs the package redis, which is not installed: pip install 'wsgicluster[redis]'"
        ) from error
    check_url(url, shown)
