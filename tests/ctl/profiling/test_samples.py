"""Stacks as faulthandler writes them, in any pieces: counted, cut at the fork, told apart from waits."""

import collections

import pytest

from wsgicluster.ctl.profiling import samples
from wsgicluster.ctl.profiling.samples import StackSamples

FORK = (
    '  File "/x/wsgicluster/arbiter/children/fork.py", line 44 in _live\n'
    '  File "/x/wsgicluster/cli.py", line 1 in main\n'
)
SERVE = '  File "/x/wsgicluster/worker/kinds/worker.py", line 9 in serve\n'
POOL = (
    "Thread 0x00007f0001 (most recent call first):\n"
    '  File "/x/wsgicluster/worker/kinds/gthread.py", line 3 in _rest\n'
    '  File "/usr/lib/python3.11/threading.py", line 9 in run\n'
    "\n"
)


def dump(*frames: str, thread: str = "Current thread 0x00007f0002") -> str:
    lines = [f'  File "{file}", line {line} in {name}\n' for name, file, line in (each.split() for each in frames)]
    return f"{thread} (most recent call first):\n{''.join(lines)}{SERVE}{FORK}"


def read(*texts: str) -> StackSamples:
    found = StackSamples()
    for text in texts:
        found.feed(text)
    found.finish()
    return found


def test_stacks_are_counted_whatever_line_of_a_function_they_were_at() -> None:
    text = dump("pay /srv/shop/views.py 3", "app /srv/shop/wsgi.py 1") + POOL
    again = dump("pay /srv/shop/views.py 8", "app /srv/shop/wsgi.py 1") + POOL
    found = read(text, again)
    assert found.looks == 2
    assert found.counts == {
        ("serve (wsgicluster/worker/kinds/worker.py)", "app (shop/wsgi.py)", "pay (shop/views.py)"): 2,
        ("run (threading.py)", "_rest (wsgicluster/worker/kinds/gthread.py)"): 2,
    }


def test_it_does_not_matter_how_the_text_comes_in_pieces() -> None:
    text = (POOL + dump("pay /srv/shop/views.py 3")) * 3 + "\0\0" + dump("app /srv/shop/wsgi.py 1")
    whole = read(text).counts
    for size in (1, 7, 50, 300):
        assert read(*(text[at : at + size] for at in range(0, len(text), size))).counts == whole
    assert sum(whole.values()) == 7


def test_what_is_torn_or_unknown_is_no_sample_of_something_else() -> None:
    found = read('le "/x/y.py", line 3 in lost\n', SERVE, "\n", POOL, "Fatal Python error: Aborted\n", SERVE)
    assert list(found.counts) == [("run (threading.py)", "_rest (wsgicluster/worker/kinds/gthread.py)")]
    assert read("").counts == collections.Counter()


def test_a_stack_that_is_too_deep_says_so() -> None:
    deep = 'Current thread 0x1 (most recent call first):\n  File "/a/b.py", line 1 in f\n  ...\n'
    assert list(read(deep).counts) == [("[more than 100 frames]", "f (a/b.py)")]
    collects = 'Current thread 0x1 [main] (most recent call first):\n  Garbage-collecting\n  File "b.py", line 1 in f\n'
    assert list(read(collects).counts) == [("f (b.py)", "[garbage collection]")]


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("/srv/venv/lib/python3.12/site-packages/flask/app.py", "flask/app.py"),
        ("/usr/lib/python3.11/json/decoder.py", "json/decoder.py"),
        ("/usr/lib/python3/dist-packages/django/db/utils.py", "django/db/utils.py"),
        ("/srv/venv/lib/python3.12/site-packages/wsgicluster/worker/boot.py", "wsgicluster/worker/boot.py"),
        ("/home/me/wsgicluster/views.py", "wsgicluster/views.py"),
        ("/srv/shop/shop/views.py", "shop/views.py"),
        ("app.py", "app.py"),
        ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>"),
    ],
)
def test_files_are_short_and_tell_apart(path: str, short: str) -> None:
    assert samples.short_path(path) == short


@pytest.mark.parametrize(
    ("stack", "idle"),
    [
        (("serve (wsgicluster/worker/kinds/worker.py)", "turn (wsgicluster/worker/loop/loop.py)"), True),
        (("run (threading.py)", "_rest (wsgicluster/worker/kinds/gthread.py)"), True),
        (("run (gevent/hub.py)",), True),
        # Its wait is compiled, so that its caller is the innermost frame.
        (("_run (wsgicluster/worker/kinds/sync/slow_request_monitor.py)",), True),
        (("serve (wsgicluster/worker/kinds/worker.py)", "app (app.py)", "wait (threading.py)"), False),
        (("turn (wsgicluster/worker/loop/loop.py)", "parse_head (wsgicluster/http/head.py)"), False),
        (("poll (shop/poller.py)", "wait (threading.py)"), False),
    ],
)
def test_a_wait_of_the_server_is_told_from_one_of_the_application(stack: tuple[str, ...], idle: bool) -> None:
    assert samples.is_idle(stack) is idle
    busy, waits = samples.without_idle({stack: 3})
    assert (busy, waits) == (({}, 3) if idle else ({stack: 3}, 0))


def test_folded_stacks_are_a_line_each() -> None:
    assert samples.folded({("b", "c;d (x)"): 2, ("a",): 1}) == "a 1\nb;c:d (x) 2\n"


def test_shares_count_a_function_once_in_a_stack() -> None:
    counts = {("f (a)", "f (a)"): 3, ("g (a)",): 1}
    assert (samples.share(counts, "f"), samples.share(counts, "x"), samples.share({}, "f")) == (0.75, 0.0, 0.0)
