"""What is wanted of a server, tried on real listeners and an upgrade channel, but with children that are records."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import socket
import sys
from collections.abc import Iterator

import pytest

from tests.arbiter.supervised import END, Supervised, settings, supervised
from tests.arbiter.upgrade.test_upgrade import SPEAKER
from tests.conftest import wait_until
from wsgicluster.arbiter import startup
from wsgicluster.arbiter.listeners.registry import Addresses
from wsgicluster.arbiter.listeners.shutdown import CLOSE_S, ListenerShutdown
from wsgicluster.arbiter.operations import Operations, Parts
from wsgicluster.arbiter.plan.child import Role
from wsgicluster.arbiter.plan.orders import Stopping
from wsgicluster.arbiter.plan.requester import Requester
from wsgicluster.arbiter.plan.rollout import PROBATION_S, Result
from wsgicluster.arbiter.postmortem.diagnosis import Exit
from wsgicluster.arbiter.reload import Reload
from wsgicluster.arbiter.service.launch import HandOff, Origin, Predecessor
from wsgicluster.arbiter.service.pidfile import PidFile
from wsgicluster.arbiter.service.sd_notify import Announcer
from wsgicluster.arbiter.ticket_keys import TicketKeys
from wsgicluster.arbiter.upgrade.channel import UpgradeChannel, UpgradeMessage
from wsgicluster.arbiter.upgrade.upgrade import Upgrade
from wsgicluster.errors import ServerError
from wsgicluster.ipc.events import decode_event
from wsgicluster.ipc.messages import OperationWanted
from wsgicluster.ipc.scheduling import Scheduling
from wsgicluster.ipc.scoreboard import ServerState
from wsgicluster.ipc.shared_files import SharedFilesOwner
from wsgicluster.settings import Settings

HUP, TERM, INT, CHLD, USR1, USR2, WINCH, TTIN, TTOU = (
    Requester(f"SIG{name}") for name in ("HUP", "TERM", "INT", "CHLD", "USR1", "USR2", "WINCH", "TTIN", "TTOU")
)


@dataclasses.dataclass
class Server:
    """Operations and what they act on; ``read`` is what a reload reads, ``notified`` what a service manager has got."""

    world: Supervised
    operations: Operations
    parts: Parts
    notified: list[str]
    new: list[Settings | Exception]
    other: UpgradeChannel | None = None

    def turn(self, passed_s: float = 0.0) -> None:
        """One turn of the loop, as the arbiter has it."""
        self.world.hands.now += passed_s
        self.parts.upgrade.read()
        self.operations.advance()
        self.world.supervisor.check()
        self.operations.advance_stop()
        self.world.supervisor.carry_out()

    def say(self, **fields: object) -> None:
        """A message of the server beside this one."""
        assert self.other is not None
        self.other.send(UpgradeMessage(**fields))  # type: ignore[arg-type]

    @property
    def state(self) -> ServerState:
        """What the workers read on the server's page."""
        return self.world.board.told()


_ALONE = Origin()


@contextlib.contextmanager
def running(
    folder: pathlib.Path,
    beside: UpgradeChannel | None = None,
    origin: Origin = _ALONE,
    kind: str = "this",
    **wanted: object,
) -> Iterator[Server]:
    """A server whose workers are ready; ``beside`` is its end of the channel to the server before it.

    That has a hand-off socket of the kind ``other``, this one one of ``kind``.
    """
    started = settings(workers=2, pidfile=str(folder / "pid"), errorlog=str(folder / "log"), **wanted)
    with contextlib.ExitStack() as owned:
        world = owned.enter_context(supervised(folder))
        receive, send = world.children.mailboxes.hand_off
        hand_off = HandOff(os.dup(receive.fileno()), os.dup(send.fileno()), "other")
        predecessor = None if beside is None else Predecessor(4711, os.dup(beside.fileno()), hand_off)
        upgrade = Upgrade(dataclasses.replace(origin, predecessor=predecessor), world.inbox, world.logs.error)
        pidfile = PidFile(upgrade.pidfile(str(folder / "pid")))
        pidfile.create(os.getpid())
        owned.callback(pidfile.remove)
        addresses = Addresses(world.logs.error, is_shared=upgrade.is_shared)
        owned.callback(addresses.keep, ())
        admin = startup.admin_addresses(upgrade.is_shared, world.logs.error)
        owned.callback(admin.close)
        numbers = startup.listen(started, addresses, (), world.logs.error)
        for end in upgrade.keep((), kind) or ():
            end.close()
        shared_files = SharedFilesOwner.create(str(folder))
        owned.callback(shared_files.close)
        notified: list[str] = []
        new: list[Settings | Exception] = []

        def read() -> Settings:
            found = new.pop(0) if new else started
            if isinstance(found, Exception):
                raise found
            return found

        parts = Parts(
            settings=started,
            logs=world.logs,
            clock=world.hands,
            upgrade=upgrade,
            addresses=addresses,
            admin=admin,
            shutdown=ListenerShutdown(addresses),
            board=world.board,
            shared_files=shared_files,
            children=world.children,
            announcer=Announcer(notified.append),
            supervisor=world.supervisor,
            reload=Reload(started, read, addresses, admin, lambda _: None, world.logs),
            ticket_keys=TicketKeys(str(folder), world.hands),
            registered=lambda: None,
            pidfile=pidfile,
        )
        server = Server(world, Operations(parts), parts, notified, new)
        if beside is None:
            parts.announcer.begin(world.hands.monotonic())
        world.supervisor.reload(started, numbers)
        server.turn()
        world.ready()
        world.board.tell(ServerState.SERVING)
        yield server


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    with running(tmp_path) as made:
        yield made


@pytest.fixture
def beside(tmp_path: pathlib.Path) -> Iterator[Server]:
    """A new server beside an old one."""
    ours, theirs = UpgradeChannel.pair()
    with running(tmp_path, ours) as made:
        made.other = theirs
        ours.close()
        yield made
        theirs.close()
        made.parts.upgrade.read()


def listens(server: Server) -> bool:
    """Has this process a listener left?"""
    return bool(server.parts.addresses.numbers())


def test_a_reload(server: Server) -> None:
    server.new.append(dataclasses.replace(server.parts.settings, threads=3, daemon=True))
    server.operations.reload(HUP)
    server.operations.reload(HUP)
    server.turn()
    status = server.world.supervisor.status()
    assert (status.on_trial, status.last and status.last.number) == (True, 2)
    assert any(line.startswith("Changed settings: threads: ") for line in server.world.lines)
    assert "daemon has changed, which needs a restart" in server.world.log.read_text()
    server.world.ready()
    server.turn(PROBATION_S)
    serving = server.world.supervisor.serving
    assert serving is not None
    assert (serving.threads, serving.daemon) == (3, False)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ServerError("timeout: not a time"), "Reload aborted: timeout: not a time; the present settings stay in force"),
        (
            ZeroDivisionError("in the file"),
            "Reload aborted: the settings could not be read; the present settings stay in force",
        ),
    ],
)
def test_a_reload_with_settings_that_are_wrong(server: Server, error: Exception, line: str) -> None:
    server.new.append(error)
    server.operations.reload(HUP)
    server.turn()
    assert line in server.world.lines
    last = server.world.supervisor.status().last
    assert last is not None
    assert (last.result, str(error) in last.reason) == (Result.REFUSED, True)


def test_a_changed_source_is_a_reload(server: Server) -> None:
    server.world.supervisor.messages.source_changed = True
    server.turn()
    assert server.world.supervisor.status().on_trial
    assert not server.world.supervisor.messages.source_changed


def events(server: Server) -> list[tuple[str, str]]:
    """Name and requester of each event that the steward would have got since the last call."""
    found = []
    with contextlib.suppress(BlockingIOError):  # read to the end
        while True:
            event = decode_event(server.world.children.events.receive_end.recv(1 << 20))
            found.append((event.name, event.by))
    return [(name, by) for name, by in found if by]


def test_events_and_log_name_who_has_requested_it(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, event_exec="true") as server:
        world = server.world
        steward = next(link for link in world.living if link.child.role is Role.STEWARD)
        assert events(server) == []
        world.say(steward, OperationWanted("reload", 0), OperationWanted("scale", 1))
        server.turn()
        assert world.lines[-2:] == ["Configuration file: reload", "Configuration file: scale to 1 worker"]
        assert events(server) == [("scale", "steward"), ("reload", "steward"), ("draining", "steward")]
        server.operations.add_worker(TTIN)
        server.turn()
        world.ready()
        server.turn(PROBATION_S)
        world.ready()
        reloaded = events(server)
        assert reloaded[0] == ("scale", "operator")
        assert {by for name, by in reloaded[1:]} == {"steward"}, "workers of before, and the reload"
        assert ("reload", "steward") in reloaded
        old = [link for link in world.living if link.child.generation == 1 and link.child.role is Role.WORKER]
        server.operations.stop_gracefully(TERM)
        server.turn()
        assert set(events(server)) == {("draining", "operator")}
        for link in old:
            world.exit(link)
        assert set(events(server)) == {("disconnect", "steward"), ("exit", "steward")}, "what drains for another reason"


def test_a_reload_for_changed_source_files_is_the_arbiter_s(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, event_exec="true") as server:
        events(server)
        server.world.supervisor.messages.source_changed = True
        server.turn()
        assert events(server) == [("reload", "arbiter")]


def test_logs_of_a_generation_that_is_aborted(server: Server, tmp_path: pathlib.Path) -> None:
    present = server.world.supervisor.serving
    assert present is not None
    parts = server.parts
    first = parts.settings
    logged_to = tmp_path / "new.log"
    server.new.append(dataclasses.replace(first, errorlog=str(logged_to)))
    server.operations.reload(HUP)
    server.turn()
    server.world.logs.error.error("on trial")
    assert "on trial" in logged_to.read_text()
    parts.reload.revert_logs(first)
    server.world.logs.error.error("reverted")
    assert "reverted" not in logged_to.read_text()
    parts.reload.revert_logs(dataclasses.replace(first, errorlog=str(tmp_path / "no such folder" / "log")))
    assert "no such folder" in (tmp_path / "log").read_text()


def test_logs_are_reopened_in_all_processes(server: Server, tmp_path: pathlib.Path) -> None:
    (tmp_path / "log").rename(tmp_path / "log.1")
    server.operations.reopen_logs(USR1)
    server.world.logs.error.error("after")
    assert "after" in (tmp_path / "log").read_text()
    assert [link.sent for link in server.world.living] == [[signal.SIGUSR1]] * 2


def test_a_graceful_stop(server: Server) -> None:
    server.operations.stop_gracefully(TERM)
    states = [server.state]
    assert server.operations.is_stopping
    server.turn()
    assert [*states, server.state] == [ServerState.LEAVING, ServerState.STOPPING]
    assert [link.sent for link in server.world.living] == [[signal.SIGTERM]] * 2
    server.turn(CLOSE_S)
    assert not listens(server)
    for change, by in (
        (server.operations.stop_gracefully, TERM),
        (server.operations.reload, HUP),
        (server.operations.start_successor, USR2),
    ):
        change(by)
        server.turn()
    assert server.world.lines[-2:] == [
        "Reload ignored: the server is stopping",
        "SIGUSR2 ignored: this server is stopping",
    ]
    assert server.world.supervisor.stopping is Stopping.GRACEFUL


def test_a_stop_with_a_delay(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, drain_delay=5.0) as server:
        server.operations.stop_gracefully(TERM)
        server.turn(4.0)
        assert not server.world.supervisor.stopping
        assert listens(server)
        assert server.parts.shutdown.next_due == server.world.hands.now + 1.0
        server.turn(1.0)
        assert server.world.supervisor.stopping is Stopping.GRACEFUL


def test_a_second_request_ends_the_delay(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, drain_delay=5.0) as server:
        server.operations.stop_gracefully(TERM)
        server.turn()
        server.operations.stop_gracefully(TERM)
        server.turn()
        assert server.world.supervisor.stopping is Stopping.GRACEFUL


def test_a_quick_stop_and_a_forced_one(server: Server) -> None:
    server.operations.stop_quickly(INT)
    server.turn()
    assert [link.sent for link in server.world.living] == [[signal.SIGQUIT]] * 2
    server.operations.stop_quickly(INT)
    server.turn()
    assert [link.sent[-1] for link in server.world.living] == [signal.SIGKILL] * 2
    assert server.world.supervisor.stopping is Stopping.FORCED


def test_more_and_fewer_workers(server: Server) -> None:
    server.operations.add_worker(TTIN)
    server.turn()
    assert len(server.world.living) == 3
    server.operations.remove_worker(TTOU)
    server.operations.remove_worker(TTOU)
    assert server.world.lines[-3:] == ["SIGTTIN: 3 workers", "SIGTTOU: 2 workers", "SIGTTOU: 1 worker"]
    first = server.world.living[0]
    server.world.children.exits.append((first.child, END))
    server.operations.reap(CHLD)
    assert first not in server.world.living


def test_another_scheduling_policy(server: Server) -> None:
    wanted = server.world.supervisor.messages.wanted
    wanted.append(OperationWanted("set_scheduling", settings={"weights": "3,1"}))
    wanted.append(OperationWanted("set_scheduling", settings={"weights": "3,1,1"}))
    wanted.append(OperationWanted("set_scheduling", settings={"sticky": "cookie:home"}))
    server.turn()
    assert server.world.children.scheduling == Scheduling("sticky", (3, 1), "cookie", "home")
    assert server.world.lines[-3:] == [
        "Configuration file: scheduling is weighted 3,1",
        "Scheduling stays as it is: cluster.set_scheduling: weights: 3,1,1; expected one for each of 2 workers",
        "Configuration file: scheduling is sticky by cookie:home",
    ]


def test_retiring_needs_a_daemon_or_a_successor(server: Server) -> None:
    server.operations.retire_all(WINCH)
    assert server.world.lines[-1] == "SIGWINCH ignored: this server is not a daemon, and no upgrade is under way"
    assert not server.world.supervisor.status().retired


def test_a_daemon_retires(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, daemon=True) as server:
        server.operations.retire_all(WINCH)
        server.turn()
        assert [link.sent for link in server.world.living] == [[signal.SIGTERM]] * 2
        server.operations.add_worker(TTIN)
        assert not server.world.supervisor.status().retired


def test_a_new_server_becomes_the_only_one(beside: Server, tmp_path: pathlib.Path) -> None:
    assert (tmp_path / "pid.2").exists()
    beside.say(main=True)
    beside.turn()
    beside.say(serving=False)
    assert beside.other is not None
    beside.other.close()
    beside.turn()
    assert (tmp_path / "pid").exists()
    assert "The old server (pid 4711) has exited: this one is the server now" in beside.world.lines
    assert beside.parts.upgrade.predecessor is None
    assert beside.parts.upgrade.former == 4711


def test_a_new_server_does_not_start_another_one(beside: Server) -> None:
    beside.operations.start_successor(USR2)
    assert beside.world.lines[-1] == (
        "SIGUSR2: no new server is started: the server before this one (pid 4711) still runs; end it first"
    )


def test_an_invalid_message_of_the_other_server(beside: Server) -> None:
    assert beside.other is not None
    with socket.socket(fileno=os.dup(beside.other.fileno())) as raw:
        raw.send(b"[]")
    beside.turn()
    assert "The other server (pid 4711) sent an invalid message" in beside.world.log.read_text()


def test_the_command_of_a_server_has_to_be_known(server: Server) -> None:
    server.operations.start_successor(USR2)
    assert server.world.lines[-1].startswith("SIGUSR2: no new server is started: ")


def test_an_upgrade_from_first_to_last(tmp_path: pathlib.Path) -> None:
    """The new server is a process that says that it serves, and another time that it is to stop."""
    said = [{"hand_off": True, "serving": True}]
    command = (sys.executable, "-c", SPEAKER, json.dumps(said))
    origin = Origin(command=command, directory=str(tmp_path), environ=dict(os.environ))
    with running(tmp_path, origin=origin) as server:
        upgrade = server.parts.upgrade
        server.operations.start_successor(USR2)
        pid = upgrade.successor
        assert pid is not None
        server.operations.retire_all(WINCH)
        assert server.world.lines[-1] == f"SIGWINCH ignored: the new server (pid {pid}) does not serve yet"

        def serves() -> bool:
            server.turn()
            return upgrade.takes_connections

        try:
            wait_until(serves, 20, "the new server serves")
            server.operations.retire_all(WINCH)
            server.turn()
            assert [link.sent for link in server.world.living] == [[signal.SIGTERM]] * 2
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        upgrade.ended(Exit(0, signal.SIGKILL, 0))
        server.turn()
        assert server.world.lines[-1] == "Resuming 2 retired workers: no other server is left"
        assert not server.world.supervisor.status().retired
        assert server.notified == []


def test_a_stop_while_the_new_server_serves(tmp_path: pathlib.Path) -> None:
    command = (sys.executable, "-c", SPEAKER, json.dumps([{"hand_off": True, "serving": True}]))
    origin = Origin(command=command, directory=str(tmp_path), environ=dict(os.environ))
    with running(tmp_path, origin=origin, drain_delay=60.0) as server:
        upgrade = server.parts.upgrade
        server.operations.start_successor(USR2)
        pid = upgrade.successor
        assert pid is not None

        def serves() -> bool:
            server.turn()
            return upgrade.takes_connections

        try:
            wait_until(serves, 20, "the new server serves")
            server.operations.stop_gracefully(TERM)
            server.turn()
            assert server.world.supervisor.stopping is Stopping.GRACEFUL, "without the delay: clients are served"
            assert server.notified == [f"MAINPID={pid}"]
            assert "The new server keeps serving" in server.world.lines
            assert server.state is ServerState.SERVING, "workers hand over what is idle"
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        upgrade.ended(Exit(0, signal.SIGKILL, 0))


def test_a_new_server_stops_once_the_old_one_serves_again(tmp_path: pathlib.Path) -> None:
    ours, theirs = UpgradeChannel.pair()
    with running(tmp_path, ours, kind="other") as server:
        server.other = theirs
        ours.close()
        server.say(serving=False)
        server.turn()
        server.operations.stop_gracefully(TERM)
        assert server.world.lines[-1] == "SIGTERM: graceful stop as soon as the old server serves again"
        server.turn(1.0)
        assert not server.world.supervisor.stopping
        server.say(serving=True)
        server.turn()
        assert server.world.supervisor.stopping is Stopping.GRACEFUL
        theirs.close()
        server.parts.upgrade.read()
