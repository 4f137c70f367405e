"""What clients ask for: an application, and how wrk loads it.

Every request carries a browser's headers, and their values differ from request to
request, so that no cache of whole requests can help a server.
"""

import dataclasses
from pathlib import Path

HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br",
    "Accept-Language": "en-GB,en;q=0.9",
    "Referer": "http://www.example.org/list?page=7",
    "Cache-Control": "max-age=0",
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "Sec-Fetch-Mode": "navigate",
}

# Several requests are made beforehand: making each anew would keep the load generator busier than the server.
_SCRIPT = """
local prepared, count, at = {{}}, 64, 0
function init(args)
  math.randomseed(os.time())
  for index = 1, count do
    local headers = {{}}
{headers}
    headers["Cookie"] = string.format("sessionid=%08x%08x%08x; csrftoken=%08x%08x", math.random(0, 2147483647),
      math.random(0, 2147483647), math.random(0, 2147483647), math.random(0, 2147483647), math.random(0, 2147483647))
    headers["X-Request-Number"] = tostring(math.random(1, 1000000000))
    {extra}
    prepared[index] = wrk.format("{method}", "/?number=" .. index, headers, {body})
  end
end
function request()
  at = at % count + 1
  return prepared[at]
end
"""


@dataclasses.dataclass(frozen=True)
class Scenario:
    """``title`` is for people; ``body_bytes`` above 0 makes requests POSTs."""

    application: str
    title: str
    connections: int
    body_bytes: int = 0
    close: bool = False

    def script(self, folder: Path) -> Path:
        """wrk's script for this scenario, written to a folder."""
        lines = "\n".join(f'    headers["{name}"] = "{value}"' for name, value in HEADERS.items())
        text = _SCRIPT.format(
            headers=lines,
            extra='headers["Connection"] = "close"' if self.close else "",
            method="POST" if self.body_bytes else "GET",
            body=f'string.rep("x", {self.body_bytes})' if self.body_bytes else "nil",
        )
        path = folder / f"{self.application}-{self.connections}-{self.body_bytes}-{self.close}.lua"
        path.write_text(text)
        return path


SCENARIOS = {
    "hello": Scenario("hello", "13 bytes, keep-alive, 32 connections", 32),
    "close": Scenario("hello", "13 bytes, a connection for each request", 32, close=True),
    "conns500": Scenario("hello", "13 bytes, keep-alive, 500 connections", 500),
    "post64k": Scenario("upload", "POST of 64 KiB", 16, body_bytes=65536),
    "post1m": Scenario("upload", "POST of 1 MiB", 8, body_bytes=1 << 20),
    "stream10m": Scenario("stream", "10 MiB in blocks of 64 KiB", 4),
    "sendfile10m": Scenario("sendfile", "10 MiB through wsgi.file_wrapper", 4),
    "chunked1000": Scenario("chunked", "1,000 blocks of 16 bytes", 16),
    "sleep10": Scenario("sleep10", "10 ms of waiting, 200 connections", 200),
    "flask": Scenario("flask_app", "Flask, a view that returns JSON", 16),
    "django": Scenario("django_app", "Django, a view that returns JSON", 16),
}
