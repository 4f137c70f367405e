"""The field's words in what people read: docstrings, comments, messages and help texts of the package, and its pages.

A phrase of the table is one that hides its subject behind a picture or a pronoun, or that says something else in this
field. Text between backticks, and literal blocks of a page, quote code or logs and are not looked at. The table is also
on the page docs/contributing/glossary.rst. ``python -m tests.test_words`` lists all findings, by folder.
"""

import collections
import dataclasses
import functools
import pathlib
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence

import pytest

ROOT = pathlib.Path(__file__).parent.parent

CLEAN = (
    "CONTRIBUTING.rst",
    "README.rst",
    "SECURITY.rst",
    "changes",
    "docs",
    "examples",
    "benchmarks/measure.py",
    "benchmarks/scenarios.py",
    "benchmarks/servers.py",
    "tests/apps",
    "tests/arbiter/children",
    "tests/arbiter/plan",
    "tests/arbiter/postmortem",
    "tests/arbiter/supervision",
    "tests/conftest.py",
    "tests/corpus",
    "tests/doctor",
    "tests/http",
    "tests/ipc",
    "tests/logs",
    "tests/settings",
    "tests/steward",
    "tests/system",
    "tests/test_architecture.py",
    "tests/test_cli.py",
    "tests/wsgi",
    "wsgicluster/admin",
    "wsgicluster/arbiter",
    "wsgicluster/cli.py",
    "wsgicluster/clock.py",
    "wsgicluster/cluster",
    "wsgicluster/counting.py",
    "wsgicluster/doctor",
    "wsgicluster/errors.py",
    "wsgicluster/http",
    "wsgicluster/ipc",
    "wsgicluster/logs",
    "wsgicluster/settings",
    "wsgicluster/steward",
    "wsgicluster/support",
    "wsgicluster/system",
    "wsgicluster/worker/connection",
    "wsgicluster/worker/context.py",
    "wsgicluster/worker/hosting",
    "wsgicluster/worker/__init__.py",
    "wsgicluster/worker/boot.py",
    "wsgicluster/worker/from_settings.py",
    "wsgicluster/worker/hooks.py",
    "wsgicluster/worker/intake",
    "wsgicluster/worker/kinds/assembly.py",
    "wsgicluster/worker/kinds/gevent/worker.py",
    "wsgicluster/worker/kinds/gthread.py",
    "wsgicluster/worker/kinds/offloading.py",
    "wsgicluster/worker/kinds/parts.py",
    "wsgicluster/worker/kinds/registry.py",
    "wsgicluster/worker/kinds/request_timeouts.py",
    "wsgicluster/worker/kinds/requests.py",
    "wsgicluster/worker/kinds/stack_code.py",
    "wsgicluster/worker/kinds/sync/client_waits.py",
    "wsgicluster/worker/kinds/sync/notifying_loop.py",
    "wsgicluster/worker/kinds/sync/slow_request_monitor.py",
    "wsgicluster/worker/kinds/sync/slow_request_watch.py",
    "wsgicluster/worker/kinds/sync/waiting_clients.py",
    "wsgicluster/worker/kinds/sync/worker.py",
    "wsgicluster/worker/kinds/worker.py",
    "wsgicluster/worker/lifecycle",
    "wsgicluster/wsgi",
    "wsgicluster/worker/runner.py",
    "wsgicluster/worker/scheduling",
    "wsgicluster/worker/transport",
)
"""Files and folders that use none of the phrases. To be grown to `EVERYTHING`: never shorten it."""

EVERYTHING = (
    "CONTRIBUTING.rst",
    "README.rst",
    "SECURITY.rst",
    "benchmarks",
    "changes",
    "docs",
    "examples",
    "tests",
    "wsgicluster",
)

KIN_NOT_YET = (
    "tests/live",
    "wsgicluster/worker/kinds/sync/_fast_path.pyx",
    "wsgicluster/worker/request/_leaves.pyx",
)
"""Files and folders in which `KIN` is not looked for yet. To be shortened to nothing: never lengthen it."""

READ = (".py", ".pyi", ".pyx", ".pxd", ".rst")
NOT_READ = (ROOT / "docs" / "reference" / "settings.rst", pathlib.Path(__file__).resolve())
"""What is derived from the settings' declarations; and this file, which has all phrases."""


@dataclasses.dataclass(frozen=True)
class Phrase:
    """What is not written, what is written instead, and how it is found where the words alone do not say that."""

    avoid: str
    instead: str
    pattern: str = ""

    @functools.cached_property
    def compiled(self) -> re.Pattern[str]:
        """Any white space may be between its words."""
        pattern = self.pattern or rf"\b(?:{self.avoid.replace(' / ', '|')})\b"
        return re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE)

    def find(self, text: str) -> Iterator[int]:
        """Where it begins in a text."""
        return (found.start() for found in self.compiled.finditer(text))


PHRASES = (
    Phrase(
        "answers",
        "of code: returns; of a server: responds to; as a noun: responses",
        # A server may answer a request, and a command a question.
        r"\banswers\b(?! (?:\w+ ){0,2}(?:requests?|clients?|questions?|probes?)\b)",
    ),
    Phrase("is gone", "exited, closed, disconnected", r"\b(?:is|are|was|were|be|has|have) gone\b"),
    Phrase("goes on", "continues, keeps serving", r"\b(?:goes|go|going|went) on\b"),
    Phrase("called off", "aborted, cancelled", r"\bcall(?:s|ed|ing)? (?:\w+ ){0,2}off\b"),
    Phrase("given up for", "superseded by"),
    Phrase("is left out", "is ignored, skipped, omitted", r"\b(?:is|are|was|were|be) left out\b"),
    Phrase("brought back / taken back", "resumed, reverted"),
    Phrase("asked to go / told to go", "stop requested"),
    Phrase("lets go of", "closes, releases", r"\b(?:lets?|letting) (?:\w+ )?go of\b"),
    Phrase("did not obey", "did not exit on", r"\b(?:does|did|do) not obey\b"),
    Phrase("past its time", "timed out", r"\bpast (?:its|their|his) time\b"),
    Phrase("in the midst of", "during, in the middle of", r"\bin the midst\b"),
    Phrase("nonsense", "invalid, with what was expected"),
    Phrase("such ones", "the noun"),
    Phrase(
        "is no file",
        "is not a file",
        # There may be no room, and something is no longer so or no more than so.
        r"(?<!there\s)\b(?:is|are|was|were) no (?!longer\b|more\b|other\b|different\b|such\b)\w",
    ),
    Phrase("whoever / whomever", "the noun: the caller, the client, the process that ..."),
    Phrase("somebody / anybody / nobody / everybody", "the noun: a client, a worker, no process, all users"),
    Phrase("door", "listener shutdown"),
    Phrase("coroner / autopsy", "exit investigation, diagnosis", r"\b(?:coroners?|autops(?:y|ies))\b"),
    Phrase("buried", "reaped", r"\bbur(?:y|ies|ied|ying)\b"),
    Phrase("rehearsal", "smoke test", r"\brehears\w+"),
    Phrase("relief", "slow request monitor; hand off", r"\breli(?:ef|eves?|eved|eving)\b"),
    # Alone in a string it is a key of what servers of two versions tell each other.
    Phrase("bond", "upgrade channel", r"(?<=.)\bbond\b|\bbond\b(?=.)"),
    Phrase("last words", "last messages"),
)
"""Refused in all that is `CLEAN`."""

KIN = (
    Phrase("gives back", "returns, passes on, frees", r"\bg(?:ives?|iving|ave) (?:\w+ ){0,2}back\b"),
    Phrase("takes back", "reverts, replaces, frees", r"\b(?:takes?|taking|took) (?:\w+ )?back\b"),
    Phrase("looks whether", "checks whether", r"\blook(?:s|ed|ing)? (?:whether|if)\b|\bis looked (?!for|up)"),
    Phrase("parted by", "separated by"),
    Phrase("spoken", "expected, used"),
    Phrase("vouches for", "verifies", r"\bvouch\w*"),
    Phrase("for ever", "forever, without a limit"),
    Phrase("its like / their like / and its kin", "the nouns, or: and others"),
    Phrase("to bite / bites", "fails, causes problems"),
    Phrase("without a word", "silently, without a message"),
    Phrase("in vain", "without effect, without a result"),
    Phrase("is stuck", "hangs", r"\b(?:is|are|was|were) stuck\b"),
    Phrase("at its birth", "at the fork", r"\bbirths?\b"),
    Phrase("all the same", "still, nevertheless", r"\ball the same\b(?! time)"),
    Phrase("a list of such / such a one", "the noun", r"\bof such\b(?! an? )|\bsuch a one\b"),
    Phrase("is told / are told", "is notified, gets, learns", r"\b(?:is|are|was|were|be|been) told\b(?! from\b)"),
    Phrase("believed", "trusted", r"\bbelieve[sd]?\b"),
)
"""Refused everywhere but in `KIN_NOT_YET`."""


_QUOTED = re.compile(r"``[^`]*``|:\w+:`[^`]*`|`[^`]*`")
_LITERAL = re.compile(r"(?P<prefix>[a-zA-Z]*)(?P<quotes>\"{3}|'{3}|\"|')(?P<content>.*)(?P=quotes)", re.DOTALL)
_FIELD = re.compile(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
# Since Python 3.12 an f-string is a row of tokens.
_FSTRING_START, _FSTRING_END = (getattr(tokenize, name, -1) for name in ("FSTRING_START", "FSTRING_END"))


@dataclasses.dataclass
class Piece:
    """Coherent text of a file, and the line that it begins in."""

    line: int
    text: str

    @functools.cached_property
    def plain(self) -> str:
        """The whole text, with quotations made unreadable."""
        return _QUOTED.sub(lambda found: re.sub(r"\S", "_", found.group()), self.text)

    def findings(self, phrases: Sequence[Phrase] = PHRASES) -> Iterator[tuple[int, str]]:
        """Line and complaint for each use of a phrase, in what is no quotation."""
        plain = self.plain
        for phrase in phrases:
            for at in phrase.find(plain):
                shown = " ".join(plain[max(0, at - 25) : at + 35].split())
                yield self.line + plain.count("\n", 0, at), f"'{phrase.avoid}' ({phrase.instead}): ... {shown} ..."


def pieces_of_code(text: str) -> Iterator[Piece]:
    """Strings and comments of Python or Cython; strings that are joined are one piece, and so are lines of comment."""
    string: Piece | None = None
    comment: Piece | None = None
    last_line = 0
    for kind, line, part in _strings_and_comments(text):
        if kind == tokenize.COMMENT:
            if comment is not None and line == last_line + 1:
                comment.text += f"\n{part}"
            else:
                yield from filter(None, [comment])
                comment = Piece(line, part)
            last_line = line
            continue
        yield from filter(None, [comment])
        comment = None
        if kind != tokenize.STRING:
            yield from filter(None, [string])
            string = None
        elif string is None:
            string = Piece(line, part)
        else:
            string.text += part
    yield from filter(None, [comment, string])


def _strings_and_comments(text: str) -> Iterator[tuple[int, int, str]]:
    """Type, line and content of each; and, with the type OP, where code comes between two of them."""
    # What only Cython knows: `except? -1`.
    lines = re.sub(r"\bexcept\?", "except ", text).splitlines(keepends=True)
    opened: list[tuple[int, int]] = []
    for token in tokenize.generate_tokens(iter([*lines, ""]).__next__):
        if token.type == _FSTRING_START:
            opened.append(token.start)
        elif token.type == _FSTRING_END:
            start = opened.pop()
            if not opened:
                yield tokenize.STRING, start[0], _content(_between(lines, start, token.end))
        elif opened or token.type in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            continue
        elif token.type == tokenize.STRING:
            yield token.type, token.start[0], _content(token.string)
        elif token.type == tokenize.COMMENT:
            yield token.type, token.start[0], token.string.lstrip("#: ")
        else:
            yield tokenize.OP, token.start[0], ""


def _between(lines: Sequence[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    first, last = start[0] - 1, end[0] - 1
    if first == last:
        return lines[first][start[1] : end[1]]
    return "".join([lines[first][start[1] :], *lines[first + 1 : last], lines[last][: end[1]]])


def _content(literal: str) -> str:
    """What a string literal holds, with ``{}`` for each field of an f-string, and spaces for escapes of white space."""
    found = _LITERAL.fullmatch(literal)
    assert found, literal
    content = found["content"]
    if "f" in found["prefix"].lower():
        content = _FIELD.sub("{}", content)
    return re.sub(r"\\[nrt]", "  ", content)


_HIDDEN = re.compile(
    r"\s*\.\. (?!_|\[)(?![\w-]+::)|\s*\.\. (?:code|code-block|include|literalinclude|toctree|image|figure)::"
)
_DIRECTIVE = re.compile(r"\s*\.\. [\w-]+::")


def pieces_of_page(text: str) -> Iterator[Piece]:
    """The paragraphs of a page of reStructuredText, without comments, literal blocks and code."""
    piece: Piece | None = None
    hidden_below: int | None = None
    for number, line in enumerate(text.splitlines(), 1):
        indent = len(line) - len(line.lstrip())
        if hidden_below is not None and line.strip():
            if indent > hidden_below:
                continue
            hidden_below = None
        is_hidden = _HIDDEN.match(line) is not None
        if is_hidden or not line.strip():
            yield from filter(None, [piece])
            piece = None
        elif piece is None:
            piece = Piece(number, line)
        else:
            piece.text += f"\n{line}"
        if is_hidden or (line.rstrip().endswith("::") and not _DIRECTIVE.match(line)):
            hidden_below = indent
    yield from filter(None, [piece])


@functools.cache
def pieces_of(path: pathlib.Path) -> tuple[Piece, ...]:
    """The texts of one file; read once, since most files are looked at for both tables."""
    text = path.read_text("utf-8")
    return tuple(pieces_of_page(text) if path.suffix == ".rst" else pieces_of_code(text))


def phrases_in(path: pathlib.Path, phrases: Sequence[Phrase]) -> list[Phrase]:
    """Those of the phrases that a file may use: few files have any, and few phrases are in them."""
    # What separates the texts is neither white space nor a word, so no text hides what the one before it says.
    whole = "\0".join(piece.plain for piece in pieces_of(path))
    return [phrase for phrase in phrases if phrase.compiled.search(whole)]


def files_of(name: str) -> list[pathlib.Path]:
    """The files that are looked at, in a folder or of this name."""
    path = ROOT / name
    below = [path] if path.is_file() else sorted(path.rglob("*"))
    skipped = {"_build", "__pycache__"}
    return [each for each in below if each.suffix in READ and each not in NOT_READ and not skipped & {*each.parts}]


def findings(name: str, phrases: Sequence[Phrase] = PHRASES, apart_from: Sequence[str] = ()) -> list[str]:
    """A line for each phrase that a file or folder uses, without those of the files and folders ``apart_from``."""
    return [
        f"{path.relative_to(ROOT).as_posix()}:{line}: {complaint}"
        for path in files_of(name)
        if not any(path.is_relative_to(ROOT / other) for other in apart_from)
        if (used := phrases_in(path, phrases))
        for piece in pieces_of(path)
        for line, complaint in piece.findings(used)
    ]


@pytest.mark.parametrize("name", CLEAN)
def test_the_fields_words_are_used(name: str) -> None:
    assert files_of(name), "nothing of this name is looked at"
    found = findings(name)
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("name", EVERYTHING)
def test_nor_are_the_kin_of_these_phrases(name: str) -> None:
    found = findings(name, KIN, KIN_NOT_YET)
    assert not found, "\n" + "\n".join(found)


def test_what_is_excepted_is_there() -> None:
    assert not [name for name in (*CLEAN, *KIN_NOT_YET) if not (ROOT / name).exists()]


def test_what_is_clean_is_part_of_everything() -> None:
    assert not [name for name in CLEAN if not name.startswith(EVERYTHING)]


def avoided(pieces: Iterable[Piece], phrases: Sequence[Phrase] = PHRASES) -> list[str]:
    """The phrases that are found, without what is said about them."""
    return [complaint.split("'")[1] for piece in pieces for _, complaint in piece.findings(phrases)]


@pytest.mark.parametrize(
    ("code", "avoid"),
    [
        ('def f():\n    """Whether it runs; answers its pid."""\n', "answers"),
        ('"""The answers mean nothing."""', "answers"),
        ('log.info("%s is gone: %s", a, b)', "is gone"),
        ('log.info("%s is " "gone", a)', "is gone"),
        ('log.info(\n    "Worker %s is "\n    # as it was\n    "gone", a)', "is gone"),
        ('x = f"{a} is gone"', "is gone"),
        ('x = f"{a["b"]:{width}} is {c} and goes on" if a else ""', "goes on") if sys.version_info >= (3, 12) else
        ('x = f"{a:{width}} is {c} and goes on"', "goes on"),
        ('x = rb"it goes\\non"', "goes on"),
        ("# The old one\n# goes\n# on, and serves.\nx = 1", "goes on"),
        ("x = 1  # it was told to go", "asked to go / told to go"),
        ("#: It is called at once off.\nx = 1", "called off"),
        ('"""One line.\n\n    The reload is called\n    off.\n    """', "called off"),
        ("raise ValueError('sent nonsense')", "nonsense"),
        ("x = 1  # that is no file of ours", "is no file"),
        ('field(help="more than one make sync workers such ones")', "such ones"),
        ("# Whoever has it, closes it.", "whoever / whomever"),
        ("cdef int f() except? -1:\n    # nobody waits\n    return <int> x", "somebody / anybody / nobody / everybody"),
    ],
)  # fmt: skip
def test_phrases_in_code_are_found(code: str, avoid: str) -> None:
    assert avoided(pieces_of_code(code)) == [avoid]


@pytest.mark.parametrize(
    "code",
    [
        'def answers():\n    """Returns; see `answers`, and ``is gone`` in logs."""\n    return door',
        '"""The worker answers a request, and answers every second client."""',
        '"""There is no room, it is no longer open, and it is no more than that."""',
        "# it is\nx = 1\n# gone",
        "x = 1  # it is\n\n# gone",
        'f("it is", "gone")',
        '"""It is."""\n\n"""Gone."""',
        'x = f"it is {gone}"',
    ],
)
def test_what_is_not_meant_is_left_alone(code: str) -> None:
    assert avoided(pieces_of_code(code)) == []


@pytest.mark.parametrize(
    ("text", "avoid"),
    [
        ("It gives the memory back.", "gives back"),
        ("The signal is taken, and it took that back.", "takes back"),
        ("It is looked whether there is room.", "looks whether"),
        ("Paths, or a list of such.", "a list of such / such a one"),
        ("The old server is told to end.", "is told / are told"),
    ],
)
def test_their_kin_is_found(text: str, avoid: str) -> None:
    assert avoided([Piece(1, text)], KIN) == [avoid]


@pytest.mark.parametrize("text", ["It is looked up.", "It cannot be told from another.", "the size of such a body"])
def test_what_only_sounds_like_it_is_left_alone(text: str) -> None:
    assert avoided([Piece(1, text)], KIN) == []


PAGE = """\
A page
======

The worker is
gone, and ``nobody`` knows::

    log: somebody goes on

.. code-block:: python

    # nonsense

.. A comment: nonsense.
   Nonsense.

.. toctree::

   nonsense

- The other goes on.

.. note::

   It is nonsense.
"""


def test_phrases_on_a_page_are_found() -> None:
    assert avoided(pieces_of_page(PAGE)) == ["is gone", "goes on", "nonsense"]


def test_lines_are_named() -> None:
    assert [line for piece in pieces_of_page(PAGE) for line, _ in piece.findings()] == [4, 20, 24]
    code = '"""First.\n\nIt goes on.\n"""\n\n# It is\n# no file.\n'
    assert [line for piece in pieces_of_code(code) for line, _ in piece.findings()] == [3, 6]


def main() -> None:
    """Print what is left to do, and how much of it is in each folder."""
    counts: collections.Counter[str] = collections.Counter()
    for name in EVERYTHING:
        for complaint in findings(name, (*PHRASES, *KIN)):
            sys.stdout.write(f"{complaint}\n")
            counts[complaint.partition(":")[0].rpartition("/")[0]] += 1
    for folder, count in sorted(counts.items()):
        sys.stdout.write(f"{count:6}  {folder or '.'}\n")


if __name__ == "__main__":
    main()
