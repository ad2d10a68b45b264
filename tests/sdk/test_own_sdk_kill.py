"""An app on Perdure's own SDK is killed in the middle of a step: the finished steps are not run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sdk.conftest import Starter
from tests.sdk.driver import Server


@pytest.mark.parametrize("app_id", ["own", "own-sync"])
def test_a_killed_app_loses_nothing_that_was_finished(
    app_id: str, start_app: Starter, tmp_path: Path
) -> None:
    server = Server.start(tmp_path)
    try:
        first = start_app(app_id, on=server)
        assert first.sync().status_code == 200
        sent = first.trigger("four-steps", c=2, key="killed")
        first.saw(sent.key, "the third step", lambda log: "c" in log.steps())
        before = first.log(sent.key)
        assert [post["status"] for post in before.checkpoints()] == [200, 200]
        first.process._child.kill()
        first.process._child.wait()
        second = start_app(app_id, on=server)
        assert second.sync().status_code == 200
        run = second.wait(sent, "four-steps")
        assert (run.status, run.output) == ("Completed", "four")
        assert second.log(sent.key).steps() == ["c", "d"], "a and b were saved"
    finally:
        server.stop()
