"""Results by name."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.reading.outputs import (
    ErrorText,
    OutputName,
    SpanOutput,
    read_error,
    read_output_name,
    run_output,
    step_output,
    trigger_payload,
)
from perdure.reading.port import EventRecord
from tests.unit.reading.histories import EVENT, RUN, History


@pytest.mark.parametrize(
    "name",
    [
        OutputName(RUN, "root"),
        OutputName(RUN, "end"),
        OutputName(RUN, "step", "a:b/ü"),
        OutputName(RUN, "entry", "12"),
    ],
)
def test_names_come_back(name: OutputName):
    assert read_output_name(name.text()) == name


@given(st.text())
def test_other_texts_are_no_names(text: str):
    with pytest.raises(ValueError, match="not made by this server"):
        read_output_name(text)


@pytest.mark.parametrize("text", ["bad:root:", f"{RUN}:other:", f"{RUN}:entry:x", f"{RUN}:root"])
def test_nor_is_what_only_looks_like_one(text: str):
    import base64

    with pytest.raises(ValueError, match="not made"):
        read_output_name(base64.urlsafe_b64encode(text.encode()).decode())


@pytest.mark.parametrize(
    ("op", "memo", "expected"),
    [
        ("StepRun", b'{"data":{"a":1}}', SpanOutput(data='{"a":1}')),
        ("StepRun", b'{"data":null}', SpanOutput(data="null")),
        ("Sleep", b"null", SpanOutput(data="null")),
        ("WaitForEvent", b'{"data":{},"name":"x"}', SpanOutput(data='{"data":{},"name":"x"}')),
        ("Step", b'{"other":1}', SpanOutput(data='{"other":1}')),
        ("StepFailed", b'{"error":{"message":"m","name":"N"}}', SpanOutput(error=ErrorText("m", "N"))),
    ],
)
def test_results_of_steps(op: str, memo: bytes, expected: SpanOutput):
    assert step_output(op, memo) == expected
    edited = step_output(op, memo, b"[1]")
    assert edited == msgspec.structs.replace(expected, input="[1]")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (b'{"message":"m","name":"N","stack":"s","cause":{"a":1}}', ErrorText("m", "N", "s", {"a": 1})),
        (b'{"message":"m"}', ErrorText("m", "Error")),
        (b'{"error":{"error":"N: m","name":"N","message":"m"}}', ErrorText("m", "N")),
        (b'"plain text"', ErrorText("", "Error", '"plain text"')),
        (b"{}", ErrorText("", "Error", "{}")),
        (b"[1]", ErrorText("", "Error", "[1]")),
        (b'{"message":7,"name":8}', ErrorText("", "Error", '{"message":7,"name":8}')),
        (
            b'{"error":{"error":{"error":{"message":"deep"}}}}',
            ErrorText("", "Error", '{"error":{"message":"deep"}}'),
        ),
    ],
)
def test_errors(error: bytes, expected: ErrorText):
    assert read_error(error) == expected


def test_results_of_runs():
    done = History().run("COMPLETED", ended=9, output=b'{"a":1}')
    assert run_output(done.run) == SpanOutput(data='{"a":1}')
    (shown,) = json.loads(run_output(done.run, done.events).input or "")
    assert shown == {"id": "x", "name": "test/it", "data": {"id": "7"}, "ts": 1}
    failed = History().run("FAILED", ended=9, output=b'{"message":"m"}')
    assert run_output(failed.run) == SpanOutput(error=ErrorText("m", "Error"))
    assert run_output(History().run().run) == SpanOutput()


def test_triggers_show_what_the_sender_gave():
    body = b'{"data":{"a":1.0},"id":"x","name":"n","ts":1,"user":{"id":1},"v":"2"}'
    event = EventRecord(1, EVENT, "n", "", 1, 2, False, body)
    expected = f'{{"id":"{EVENT}","name":"n","data":{{"a":1.0}},"ts":1,"user":{{"id":1}},"v":"2"}}'
    assert trigger_payload(event).decode() == expected
