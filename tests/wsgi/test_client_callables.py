"""The callables of a request while the connection's way to receive changes."""

from _thread import get_ident

from wsgicluster.wsgi.client_callables import ClientCallables


class Sent:
    """A response that is under way, and the runner that makes it."""

    def __init__(self) -> None:
        self.thread_id = get_ident()
        self.interim: list[bytes] = []
        self.deadlines: list[float] = []

    @property
    def cycle(self) -> "Sent":
        return self

    def answer_to(self, _contact: ClientCallables) -> "Sent":
        return self

    def send_interim(self, data: bytes) -> None:
        self.interim.append(data)

    def lost_client(self) -> bool:
        return False

    def extend_deadline(self, deadline: float) -> None:
        self.deadlines.append(deadline)


def test_a_request_keeps_its_callables_while_the_way_to_receive_changes() -> None:
    contact, response = ClientCallables(), Sent()
    contact.answer, contact.runner = response, response
    contact.be_answered_by(None)
    assert contact.early_hints is not None
    contact.early_hints([("Link", "</a.css>; rel=preload")])
    assert len(response.interim) == 1
    contact.answer = None
    contact.be_answered_by(None)
    contact.early_hints([("Link", "</a.css>; rel=preload")])
    assert len(response.interim) == 1, "it is over"


def test_the_next_request_is_answered_in_the_new_way() -> None:
    contact, fast = ClientCallables(), Sent()
    contact.be_answered_by(fast)
    assert contact.early_hints is not None
    assert contact.extend_deadline is not None
    contact.early_hints([("Link", "</a.css>; rel=preload")])
    contact.extend_deadline(5)
    assert (len(fast.interim), len(fast.deadlines)) == (1, 1)
