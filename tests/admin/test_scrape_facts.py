"""What the admin worker adds to a status: errors are those of the server, whichever admin worker has had them."""

import contextlib
import pathlib

from wsgicluster.admin.scrape_facts import ScrapeErrors
from wsgicluster.ipc.scoreboard import Scoreboard


def test_errors_stay_when_the_admin_worker_is_replaced(tmp_path: pathlib.Path) -> None:
    with contextlib.closing(Scoreboard(str(tmp_path))) as board:
        old_page = board.take(0, 1)
        old = ScrapeErrors(old_page, board)
        old.note()
        new = ScrapeErrors(board.take(0, 2), board)
        assert new.total == 1
        new.note()
        board.free(old_page)
        assert new.total == 2
        assert ScrapeErrors(board.take(0, 3), board).total == 2, "on the page of the first one"
