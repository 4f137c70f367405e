from typing import Any

from wsgicluster.http.limits import HeadLimits

def parse_head(
    data: bytes, start: int, end: int, template: dict[str, Any], limits: HeadLimits
) -> tuple[dict[str, Any], int, int]: ...
