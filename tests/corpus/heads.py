"""Request heads and what must become of them, for every implementation of `parse_head`."""

from tests.corpus.fields import FIELDS
from tests.corpus.framing import FRAMING
from tests.corpus.leniency import LENIENCY
from tests.corpus.request_lines import REQUEST_LINES
from tests.corpus.underscores import UNDERSCORES

HEADS = [*REQUEST_LINES, *FIELDS, *FRAMING, *UNDERSCORES, *LENIENCY]
