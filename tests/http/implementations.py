"""The parsers and writers that are held to the same corpus: plain Python, and its compiled twin where that is built."""

from wsgicluster.http import head, response

PARSERS = {"python": head.parse_head}
FORMATTERS = {"python": response.format_response}

try:
    from wsgicluster.http import _parser, _writer
except ImportError:
    COMPILED = False
else:
    COMPILED = True
    PARSERS["compiled"] = _parser.parse_head
    FORMATTERS["compiled"] = _writer.format_response
