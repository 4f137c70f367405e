"""Parts of the shared state that are opened at their first use, in whatever thread that is."""

import pathlib
import threading
from types import TracebackType

from wsgicluster.cluster.embedded.backend import EmbeddedBackend
from wsgicluster.ipc.shared_files import SharedFilesOwner

STORE_BYTES = 1 << 20
WAIT_S = 10.0


class TakenFirst:
    """A mutex that the thread ``waits`` takes only once another one has it."""

    def __init__(self, waits: str) -> None:
        self._waits = waits
        self._lock = threading.RLock()
        self._is_taken = threading.Event()

    def __enter__(self) -> None:
        is_first = threading.current_thread().name == self._waits
        if is_first:
            self._is_taken.wait(WAIT_S)
        self._lock.acquire()
        self._is_taken.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def test_threads_that_begin_with_different_parts(tmp_path: pathlib.Path) -> None:
    owner = SharedFilesOwner.create(str(tmp_path))
    try:
        backend = EmbeddedBackend(owner.files, STORE_BYTES)
        backend._mutex = TakenFirst("counts")  # type: ignore[assignment]
        taken = []
        threads = [
            threading.Thread(target=backend.add_to_counter, args=("hits", 1), name="counts", daemon=True),
            threading.Thread(target=lambda: taken.append(backend.take_lock("turn", None)), daemon=True),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert not any(thread.is_alive() for thread in threads), "they wait for each other"
        assert backend.counter_value("hits") == 1
        assert taken != [None]
        backend.close()
    finally:
        owner.close()
