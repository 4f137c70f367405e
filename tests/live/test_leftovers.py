"""What a request leaves behind is met by no other one: greenlets, timeouts, locals and context variables."""

import collections
import itertools
import json
import pathlib
from collections.abc import Iterator

import pytest

from tests.conftest import LiveServer, wait_until
from tests.live.client import BrokenResponse, Connection, Response, fetch

pytestmark = pytest.mark.live

CORES = {"compiled": "", "plain": "1"}

CONTEXTS = '''
import contextvars, json, sys, threading
import asgiref.local, werkzeug.local

own = contextvars.ContextVar("own")
imported = contextvars.ContextVar("imported")
imported.set("by the import")
asgi = asgiref.local.Local()
werk = werkzeug.local.Local()
thread = threading.local()
greenlet_local = None
if "gevent" in sys.modules:
    import gevent, gevent.local
    greenlet_local = gevent.local.local()

def remember(name):
    own.set(name)
    imported.set(name)
    asgi.name = werk.name = thread.name = name
    if greenlet_local is not None:
        greenlet_local.name = name
        gevent.getcurrent().spawn_tree_locals["name"] = name

def seen():
    found = {
        "own": own.get(None), "imported": imported.get(None), "asgiref": getattr(asgi, "name", None),
        "werkzeug": getattr(werk, "name", None), "thread": getattr(thread, "name", None),
    }
    if greenlet_local is not None:
        found["greenlet"] = getattr(greenlet_local, "name", None)
        found["tree"] = gevent.getcurrent().spawn_tree_locals.get("name")
    return found

class Blocks:
    """One context for the call, each block and the close: a token of one is good in the others."""

    def __init__(self, name, errors):
        self.token, self.name, self.errors, self.left = own.set(name), name, errors, 2

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        assert own.get() == self.name
        own.reset(self.token)
        self.token = own.set(self.name)
        return b"block;"

    def close(self):
        own.reset(self.token)
        self.errors.write("closed with " + str(own.get(None)) + "\\n")
        remember(self.name)

def in_generator(name):
    yield b"one;"
    remember(name)
    yield b"two"
    assert own.get() == name

def application(environ, start_response):
    _, how, name = environ["PATH_INFO"].split("/")
    headers = [("Content-Type", "text/plain")]
    if how == "seen":
        start_response("200 OK", headers)
        return [json.dumps(seen()).encode()]
    if how == "generator":
        start_response("200 OK", headers)
        return in_generator(name)
    if how == "blocks":
        start_response("200 OK", headers)
        return Blocks(name, environ["wsgi.errors"])
    remember(name)
    if how == "raise":
        raise LookupError(name)
    if how == "exit":
        sys.exit(name)
    write = start_response("200 OK", headers)
    if how == "write":
        write(b"written;")
        remember(name)
    return [b"x" * 100_000] if how == "large" else [b"one;", b"two"] if how == "two" else [b"one"]
'''

GREENLETS = '''
import gc, gevent, gevent.util, json, os, sys, time

kept, linked, late = {}, [], []

def sleeping():
    yield b"first;"
    gevent.sleep(60)

def leaving(seconds):
    gevent.Timeout(seconds).start()
    yield b"first;"

class Closing(list):
    def close(self):
        gevent.Timeout(0.05).start()

def end(target, how):
    if how == "kill":
        gevent.kill(target)
    elif how == "method":
        target.kill()
    elif how == "without waiting":
        target.kill(block=False)
    elif how == "all":
        gevent.killall([target])
    elif how == "error":
        target.kill(ValueError("killed"))
    elif how == "exit":
        target.kill(SystemExit)
    elif how == "interrupt":
        target.kill(KeyboardInterrupt)
    elif how == "throw":
        gevent.get_hub().loop.run_callback(target.throw, LookupError("thrown"))

def spawned(error):
    gevent.sleep(0.05)
    late.append(repr(error))
    if error is not None:
        raise error

ERRORS = {"nothing": None, "exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "fault": LookupError("late")}

def application(environ, start_response):
    path = environ["PATH_INFO"]
    name, body = environ["QUERY_STRING"].replace("%20", " "), b"ok"
    current = gevent.getcurrent()
    if path == "/timeout":
        gevent.Timeout(0.05).start()
    elif path == "/timeout/error":
        gevent.Timeout(0.05, LookupError("late")).start()
    elif path == "/timeout/raise":
        gevent.Timeout(0.05).start()
        raise LookupError("with a timeout")
    elif path == "/timeout/stream":
        start_response("200 OK", [])
        return leaving(0.05)
    elif path == "/timeout/close":
        start_response("200 OK", [])
        return Closing([body])
    elif path == "/timeout/body":
        gevent.Timeout(0.05).start()
        environ["wsgi.input"].read(1)
    elif path == "/timeout/log":
        gevent.Timeout(0.05).start()
        raise LookupError("slowly logged")
    elif path == "/wait":
        gevent.sleep(0.15)
    elif path == "/remember":
        kept[name] = current
    elif path == "/end":
        end(kept.pop(name.partition(",")[0]), name.partition(",")[2])
    elif path == "/run":
        kept[name] = current
        gevent.sleep(60)
    elif path == "/run/stream":
        kept[name] = current
        start_response("200 OK", [])
        return sleeping()
    elif path == "/run/body":
        kept[name] = current
        environ["wsgi.input"].read()
    elif path == "/run/join":
        kept[name] = current
        gevent.spawn(gevent.sleep, 60).join()
    elif path == "/known":
        body = str(name in kept).encode()
    elif path == "/self":
        end(current, name)
    elif path == "/self/raise":
        raise {"kill": gevent.GreenletExit, "exit": SystemExit, "interrupt": KeyboardInterrupt}[name]
    elif path == "/busy":
        open("begun", "w").close()
        while not os.path.exists("go"):
            pass
    elif path == "/killall":
        for each in [each for each in gc.get_objects() if issubclass(type(each), gevent.Greenlet)]:
            if each is not current:
                each.kill(block=False)
    elif path == "/link":
        current.link(lambda ended: linked.append(ended is current and ended.successful()))
        current.rawlink(lambda ended: linked.append(ended is current))
        facts = [isinstance(current, gevent.Greenlet), isinstance(current.minimal_ident, int), not current.dead]
        facts += [bool(current), current.name.startswith("Greenlet-"), current.loop is gevent.get_hub().loop]
        body = json.dumps(facts).encode()
        gevent.util.format_run_info()
        linked.clear()
    elif path == "/linked":
        body = json.dumps(linked).encode()
    elif path == "/spawn":
        late.clear()
        gevent.spawn(spawned, ERRORS[name])
    elif path == "/late":
        body = json.dumps(late).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

import logging

class Slow(logging.Handler):
    """The record of one failure takes longer than the timeout that its request has left behind."""

    def emit(self, record):
        if record.exc_info and "slowly logged" in str(record.exc_info[1]):
            gevent.sleep(0.15)

logging.getLogger("wsgicluster.error").addHandler(Slow())
'''

KINDS = {"sync": [], "gthread": ["--threads", "1"], "gevent": []}


def started(folder: pathlib.Path, kind: str, core: str, source: str, *more: str) -> Iterator[LiveServer]:
    if kind == "gevent":
        pytest.importorskip("gevent")
    (folder / "app.py").write_text(source, "utf-8")
    flags = ["-b", "127.0.0.1:0", "-w", "1", "-k", kind, *KINDS[kind], *more]
    live = LiveServer(folder, [*flags, "app"], {"WSGICLUSTER_PURE": CORES[core]}).start()
    try:
        live.wait_listening()
        live.wait_log("is ready")
        yield live
    finally:
        live.end()
        print(live.log())


@pytest.fixture(scope="module", params=list(itertools.product(KINDS, CORES)), ids="-".join)
def contexts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    kind, core = request.param
    yield from started(tmp_path_factory.mktemp("contexts"), kind, core, CONTEXTS, "--smoke", "/list/smoke")


@pytest.fixture(scope="module", params=CORES)
def greenlets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    yield from started(tmp_path_factory.mktemp("greenlets"), "gevent", request.param, GREENLETS)


# -- context variables and locals


WAYS = ("list", "two", "large", "write", "generator", "blocks", "raise", "exit")
FORMS = {"GET": None, "HEAD": None, "POST": b"body"}


def test_context_variables_of_one_request_are_not_those_of_the_next(contexts: LiveServer) -> None:
    kind = contexts.arguments[contexts.arguments.index("-k") + 1]
    kept = Connection(contexts.port)
    for number, (way, method) in enumerate(itertools.product(WAYS, FORMS)):
        name = f"client{number}"
        for connection in (kept, Connection(contexts.port)):
            response = connection.exchange(f"/{way}/{name}", method, FORMS[method])
            assert response.status == (500 if way in ("raise", "exit") else 200), (way, method)
            if connection is not kept:
                connection.close()
            elif response.closes:
                kept.close()
                kept = Connection(contexts.port)
            for each in (kept, Connection(contexts.port)):
                found = json.loads(each.exchange("/seen/x").body)
                # Threads are used again, and with them what is theirs; a sync worker has just one.
                if kind != "gevent":
                    assert found.pop("thread") == name
                assert found.pop("imported") == "by the import", (way, method)
                assert set(found.values()) == {None}, (way, method, found)
                if each is not kept:
                    each.close()
    kept.close()
    assert "closed with None" in contexts.log()
    assert "AssertionError" not in contexts.log()
    assert "different Context" not in contexts.log()


# -- greenlets


def answers(live: LiveServer) -> None:
    """Three clients who come anew, and one who comes again, are served."""
    for _ in range(3):
        assert fetch(live.port, "/").body == b"ok"
    with Connection(live.port) as connection:
        for _ in range(3):
            assert connection.exchange("/").body == b"ok"


LEFT = ("/timeout", "/timeout/error", "/timeout/raise", "/timeout/stream", "/timeout/close", "/timeout/log")


@pytest.mark.parametrize("path", LEFT)
def test_a_timeout_that_nobody_cancels_hits_no_other_request(greenlets: LiveServer, path: str) -> None:
    workers = greenlets.children()
    with (
        Connection(greenlets.port) as leaver,
        Connection(greenlets.port) as stranger,
        Connection(greenlets.port) as new,
    ):
        stranger.ask("/wait")  # has begun before
        leaver.ask(path)
        if path in ("/timeout/raise", "/timeout/log"):
            # Past its time while its failure is logged: what becomes of its own response is open, but it ends.
            assert leaver.rest()[:12] in (b"HTTP/1.1 500", b"" if path == "/timeout/log" else b"HTTP/1.1 500")
        else:
            assert leaver.response().status == 200
            leaver.ask("/wait")
        new.ask("/wait")
        assert stranger.response().body == b"ok"
        assert new.response().body == b"ok"
        if path not in ("/timeout/raise", "/timeout/log"):
            assert leaver.response().body == b"ok"
    answers(greenlets)
    assert greenlets.children() == workers


def test_a_timeout_of_an_upload_that_goes_on_hits_no_other_request(greenlets: LiveServer) -> None:
    with Connection(greenlets.port) as leaver, Connection(greenlets.port) as stranger:
        leaver.send(b"POST /timeout/body HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100)
        assert leaver.response().body == b"ok"
        stranger.ask("/wait")
        assert stranger.response().body == b"ok"
    answers(greenlets)


ENDS = ("kill", "method", "without waiting", "all", "error", "exit", "interrupt", "throw")


@pytest.mark.parametrize("how", ENDS)
def test_a_finished_greenlet_that_is_killed_matters_to_nobody(greenlets: LiveServer, how: str) -> None:
    for _ in range(2):
        assert fetch(greenlets.port, f"/remember?{how.replace(' ', '%20')}").status == 200
        assert fetch(greenlets.port, f"/end?{how.replace(' ', '%20')},{how.replace(' ', '%20')}").status == 200
        answers(greenlets)


def ending(connection: Connection) -> Response | None:
    """The response, or None for one that was broken off."""
    try:
        return connection.response()
    except (BrokenResponse, ConnectionResetError):
        return None


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("where", ["/run", "/run/stream", "/run/body", "/run/join"])
def test_a_running_greenlet_that_is_killed_ends_its_request_alone(greenlets: LiveServer, how: str, where: str) -> None:
    name = f"{where}{how}".replace(" ", "%20")
    workers, failures = greenlets.children(), greenlets.log().count("the application failed")
    with Connection(greenlets.port) as client, Connection(greenlets.port) as stranger:
        extra = "Content-Length: 200000\r\n" if where == "/run/body" else ""
        client.send(f"POST {where}?{name} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode())
        wait_until(lambda: fetch(greenlets.port, f"/known?{name}").body == b"True", 5)
        stranger.ask("/wait")
        assert fetch(greenlets.port, f"/end?{name},{how.replace(' ', '%20')}").status == 200
        response = ending(client)
        assert (response and response.status) == (None if where == "/run/stream" else 500)
        assert stranger.response().body == b"ok"
    wait_until(lambda: greenlets.log().count("the application failed") == failures + 1, 5)
    answers(greenlets)
    assert greenlets.children() == workers


# Where nothing waits behind it `gevent.kill` comes too late to matter.
SELVES = {"/self?kill": 200, "/self?method": 500, "/self?exit": 500, "/self/raise?kill": 500, "/self/raise?exit": 500}


@pytest.mark.parametrize("path", SELVES)
def test_a_greenlet_that_ends_itself_ends_its_request_alone(greenlets: LiveServer, path: str) -> None:
    workers = greenlets.children()
    assert fetch(greenlets.port, path).status == SELVES[path]
    answers(greenlets)
    assert greenlets.children() == workers


def test_a_greenlet_that_is_killed_before_it_begins_gets_an_answer(greenlets: LiveServer) -> None:
    go = greenlets.folder / "go"
    with Connection(greenlets.port) as busy, Connection(greenlets.port) as killer, Connection(greenlets.port) as victim:
        for each in (killer, victim):
            each.exchange("/")
        busy.ask("/busy")
        wait_until((greenlets.folder / "begun").exists, 10, "no other greenlet runs")
        killer.ask("/killall")
        victim.ask("/run?victim")
        go.write_text("")
        assert killer.response().status == 200
        found = victim.response()
        assert (found.status, found.closes) == (500, True)
        ending(busy)
    go.unlink()
    greenlets.wait_log("the request's greenlet was killed")
    answers(greenlets)


def test_the_greenlet_of_a_request_is_a_full_one(greenlets: LiveServer) -> None:
    for _ in range(2):
        facts = json.loads(fetch(greenlets.port, "/link").body)
        assert facts == [True] * 6
        wait_until(lambda: json.loads(fetch(greenlets.port, "/linked").body) == [True, True], 5)


@pytest.mark.parametrize("error", ["nothing", "exit", "interrupt", "fault"])
def test_a_greenlet_that_a_request_has_spawned_outlives_it_and_harms_nobody(greenlets: LiveServer, error: str) -> None:
    workers = greenlets.children()
    assert fetch(greenlets.port, f"/spawn?{error}").status == 200
    wait_until(lambda: len(json.loads(fetch(greenlets.port, "/late").body)) == 1, 5)
    answers(greenlets)
    assert greenlets.children() == workers


def test_greenlets_of_requests_are_new_ones_and_leave_no_trace(greenlets: LiveServer) -> None:
    counts = collections.Counter(fetch(greenlets.port, "/").status for _ in range(20))
    assert counts == {200: 20}
    assert greenlets.stop() == 0
    assert "internal error" not in greenlets.log()
