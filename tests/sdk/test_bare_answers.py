"""Answers that no healthy SDK gives: pages of proxies, redirects, torn and endless bodies, odd but legal spellings."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.sdk.bare_app import Answer, Scripted, ops, ran
from tests.sdk.driver import free_port

Make = Callable[..., Scripted]
HTML = {"content-type": "text/html"}
MIB = 1024 * 1024


def html(status: int, text: str, sdk: bool = False) -> Answer:
    return Answer(status, text.encode(), HTML, sdk=sdk)


def test_page_with_status_200_is_not_a_result(scripted: Make) -> None:
    page = "<html><body>hello</body></html>"
    fn = scripted([html(200, page), html(200, page)], retries=1)
    run = fn.run()
    assert (run["status"], run["output"]) == ("Failed", page)
    assert [call.ctx["attempt"] for call in fn.calls] == [0, 1]


def test_page_with_status_200_then_a_result(scripted: Make) -> None:
    fn = scripted([html(200, "<html>"), Answer(200, "mended")], retries=1)
    run = fn.run()
    assert (run["status"], run["output"]) == ("Completed", "mended")


@pytest.mark.parametrize("status", [404, 500, 502, 504])
def test_page_of_a_proxy_with_an_error_status(scripted: Make, status: int) -> None:
    page = f"<html><body>Error {status}</body></html>"
    fn = scripted([html(status, page), html(status, page)], retries=1)
    run = fn.run()
    text = f"Your server returned HTTP {status} before the SDK responded."
    assert run["status"] == "Failed"
    output = run["output"]
    assert (output["name"], output["message"], output["error"]) == (
        "Server returned a fatal error",
        text,
        text,
    )
    assert page in output["stack"]
    assert [call.ctx["attempt"] for call in fn.calls] == [0, 1]


@pytest.mark.parametrize("sdk", [False, True], ids=["proxy", "sdk"])
def test_page_with_status_206(scripted: Make, sdk: bool) -> None:
    fn = scripted([html(206, "<html>part</html>", sdk), html(206, "<html>part</html>", sdk)], retries=1)
    run = fn.run()
    text = "error reading generator opcode response: expected JSON object or array"
    assert run["status"] == "Failed"
    assert run["output"] == {"error": {"error": text, "name": "Error", "message": text}}
    assert [call.body["version"] for call in fn.calls] == [-1, -1]


def test_nobody_listens(scripted: Make) -> None:
    fn = scripted([], retries=1, url=f"http://127.0.0.1:{free_port()}/api")
    started = time.monotonic()
    run = fn.run()
    text = "Unable to reach SDK URL"
    assert run["status"] == "Failed"
    assert run["output"] == {"error": {"error": text, "name": "Error", "message": text}}
    assert time.monotonic() - started > 0.9, "it was tried twice"


def test_redirect_keeps_method_body_and_query(scripted: Make) -> None:
    def script(call: Any) -> Answer:
        if call.path == "/moved":
            return Answer(200, {"method": call.method, "whole": call.ctx["run_id"] != ""})
        return Answer(307, b"", {"location": f"/moved?fnId={call.slug}&stepId={call.target}"}, sdk=False)

    fn = scripted(script)
    run = fn.run()
    assert (run["status"], run["output"]) == ("Completed", {"method": "POST", "whole": True})
    first, second = fn.calls
    assert first.raw == second.raw
    assert second.headers["x-run-id"] == run["run_id"]


@pytest.mark.parametrize("status", [301, 302, 308])
def test_redirects_of_other_kinds_keep_the_method_too(scripted: Make, status: int) -> None:
    def script(call: Any) -> Answer:
        if call.path == "/moved":
            return Answer(200, call.method)
        return Answer(status, b"", {"location": f"/moved?fnId={call.slug}&stepId={call.target}"}, sdk=False)

    run = scripted(script).run()
    assert (run["status"], run["output"]) == ("Completed", "POST")


def test_endless_redirects_fail_the_attempt(scripted: Make) -> None:
    def script(call: Any) -> Answer:
        return Answer(307, b"", {"location": f"/again?fnId={call.slug}&stepId={call.target}"}, sdk=False)

    fn = scripted(script)
    run = fn.run()
    assert run["status"] == "Failed"
    assert 10 <= len(fn.calls) <= 61


def test_body_that_is_cut_short_is_tried_again(scripted: Make) -> None:
    fn = scripted([Answer(200, {"long": "x" * 1000}, cut=True), Answer(200, "whole")], retries=1)
    run = fn.run()
    assert (run["status"], run["output"]) == ("Completed", "whole")
    assert [call.ctx["attempt"] for call in fn.calls] == [0, 1]


def test_cut_opcodes_save_no_step(scripted: Make) -> None:
    fn = scripted([ops(ran("a", "x" * 1000), cut=True), ops(ran("a", 2)), Answer(200, "end")], retries=1)
    assert fn.run()["status"] == "Completed"
    assert [list(call.steps.values()) for call in fn.calls] == [[], [], [{"data": 2}]]


def test_slow_headers_are_waited_for(scripted: Make) -> None:
    run = scripted([Answer(200, "slow", dribble_s=0.3)]).run()
    assert (run["status"], run["output"]) == ("Completed", "slow")


def test_slow_first_byte_is_waited_for(scripted: Make) -> None:
    run = scripted([Answer(200, "slow", delay_s=2)]).run()
    assert (run["status"], run["output"]) == ("Completed", "slow")


def test_body_over_eight_mebibytes_fails_the_attempt(scripted: Make) -> None:
    big = Answer(200, json.dumps("x" * (9 * MIB)).encode())
    fn = scripted([big, big], retries=1)
    run = fn.run(timeout=30)
    assert run["status"] == "Failed"
    text = "Your function's response body exceeds the maximum size limit"
    assert run["output"]["error"]["name"] == "output_too_large"
    assert run["output"]["error"]["error"] == f"output_too_large: {text}"
    assert run["output"]["error"]["message"] == text
    assert len(fn.calls) == 2


def test_output_just_below_the_limit_is_kept(scripted: Make) -> None:
    run = scripted([Answer(200, "x" * (8 * MIB - 100))]).run(timeout=30)
    assert run["status"] == "Completed"
    assert len(run["output"]) == 8 * MIB - 100


def test_compressed_answer(scripted: Make) -> None:
    fn = scripted([Answer(200, gzip.compress(b'{"packed":true}'), {"content-encoding": "gzip"})])
    run = fn.run()
    assert (run["status"], run["output"]) == ("Completed", {"packed": True})
    assert "gzip" in fn.calls[0].headers["accept-encoding"]


def test_compressed_answer_that_is_a_bomb_is_refused(scripted: Make) -> None:
    bomb = gzip.compress(b'"' + b"x" * (64 * MIB) + b'"')
    assert len(bomb) < MIB
    run = scripted([Answer(200, bomb, {"content-encoding": "gzip"})]).run(timeout=30)
    assert run["status"] == "Failed"
    assert run["output"]["error"]["name"] == "output_too_large"


@pytest.mark.parametrize("body", [b"", b"null"], ids=["empty", "null"])
def test_empty_200_is_null(scripted: Make, body: bytes) -> None:
    run = scripted([Answer(200, body)]).run()
    assert (run["status"], run.get("output", "absent")) == ("Completed", None)


def test_text_of_an_sdk_that_is_not_json_is_the_output(scripted: Make) -> None:
    run = scripted([Answer(200, b"not json")]).run()
    assert (run["status"], run["output"]) == ("Completed", "not json")


def test_error_of_an_sdk_that_is_not_json_is_the_output(scripted: Make) -> None:
    fn = scripted([html(500, "<html>sdk err</html>", sdk=True)])
    run = fn.run()
    assert (run["status"], run["output"]) == ("Failed", "<html>sdk err</html>")


def test_error_encoded_twice_is_unwrapped(scripted: Make) -> None:
    error = {"name": "E", "message": "twice", "stack": "s"}
    run = scripted([Answer(500, json.dumps(error))]).run()
    assert (run["status"], run["output"]) == ("Failed", error)


def test_no_retry_header_ends_the_run(scripted: Make) -> None:
    error = {"name": "E", "message": "final", "stack": "s"}
    fn = scripted([Answer(400, error, {"x-inngest-no-retry": "true"})], retries=3)
    run = fn.run()
    assert (run["status"], run["output"]) == ("Failed", error)
    assert len(fn.calls) == 1


def test_error_400_without_the_header_is_tried_again(scripted: Make) -> None:
    fn = scripted([Answer(400, {"message": "again"}), Answer(200, "ok")], retries=1)
    assert fn.run()["output"] == "ok"


def http_date(seconds: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + seconds))


def iso_date(seconds: float) -> str:
    now = time.time() + seconds
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


@pytest.mark.parametrize(
    ("spell", "least", "most"),
    [
        (lambda: "3", 1.9, 3.6),
        (lambda: iso_date(2.2), 2.1, 3.2),
        (lambda: http_date(3), 1.9, 3.6),
        (lambda: "junk", 0.9, 1.6),
    ],
    ids=["seconds", "iso-date", "http-date", "not-a-time"],
)
def test_retry_after(scripted: Make, spell: Callable[[], str], least: float, most: float) -> None:
    def script(call: Any) -> Answer:
        if call.ctx["attempt"] == 0:
            return Answer(429, {"message": "later"}, {"retry-after": spell()})
        return Answer(200, "done")

    fn = scripted(script, retries=1)
    assert fn.run()["output"] == "done"
    first, second = fn.calls
    assert least < second.at - first.at < most


def test_streamed_answer_is_unwrapped(scripted: Make) -> None:
    """Keep-alive spaces, then a status, headers and a body that is JSON text."""

    def wrapped(status: int, body: Any, headers: dict[str, str] | None = None) -> Answer:
        text = json.dumps({"status": status, "headers": headers or {}, "body": json.dumps(body)})
        return Answer(201, b"     " + text.encode())

    fn = scripted(
        [wrapped(206, [ran("a", 1)]), wrapped(500, {"message": "no"}, {"x-inngest-no-retry": "true"})],
        retries=2,
    )
    run = fn.run()
    assert (run["status"], run["output"]) == ("Failed", {"message": "no"})
    assert [len(call.steps) for call in fn.calls] == [0, 1]


def test_streamed_answer_that_is_broken_fails_the_attempt(scripted: Make) -> None:
    fn = scripted([Answer(201, b"   {oops"), Answer(201, b"   ")], retries=1)
    run = fn.run()
    assert run["status"] == "Failed"
    assert len(fn.calls) == 2


def test_app_that_answers_again_after_being_away(scripted: Make) -> None:
    """The connection is closed without a word, then the app is back."""
    fn = scripted([Answer(200, {"x": "y" * 100}, cut=True), ops(ran("a", 1)), Answer(200, "back")], retries=1)
    assert fn.run()["output"] == "back"
