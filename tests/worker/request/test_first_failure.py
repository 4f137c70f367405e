"""What the arbiter gets of the exceptions of an application: the first, once."""

from tests.conftest import ROOT
from wsgicluster.ipc.messages import ChannelClosed, Message, RequestFailed
from wsgicluster.worker.request.first_failure import FirstFailure


def raised(text: str) -> BaseException:
    try:
        raise LookupError(text)
    except LookupError as error:
        return error


def test_the_first_one_only() -> None:
    sent: list[Message] = []
    failure = FirstFailure(sent.append)
    failure.note(b"GET /\xff HTTP/1.1", raised("no table"))
    failure.note(b"GET /b HTTP/1.1", raised("no user"))
    (message,) = sent
    assert isinstance(message, RequestFailed)
    assert message.summary == "GET /\xff HTTP/1.1: LookupError: no table"
    assert message.trace.startswith("Traceback (most recent call last):\n")
    assert str(ROOT) in message.trace


def test_an_arbiter_that_has_exited() -> None:
    def send(_: Message) -> None:
        raise ChannelClosed("end of stream")

    FirstFailure(send).note(b"GET / HTTP/1.1", raised("no table"))
