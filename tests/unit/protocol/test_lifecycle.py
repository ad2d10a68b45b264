"""The server's own events, as recorded when runs ended and functions were invoked."""

from __future__ import annotations

import json

from perdure.protocol.failures import ErrorInfo
from perdure.protocol.lifecycle import (
    Invocation,
    cancelled_event_data,
    failed_event_data,
    finished_event_data,
    invoked_event_data,
    scheduled_event_data,
)

EVENT = b'{"data":{"id":"5a9c9"},"id":"01M8","name":"js/cancelon","ts":1795515123201,"user":{}}'
ENTRY = b'{"data":{"id":"5a9c9"},"id":"01M8","name":"js/cancelon","ts":1795515123201}'


def test_a_run_that_completed():
    data = finished_event_data("js-fn", "01RUN", EVENT, [EVENT], b'{"n": 1.0}', "01PARENT.abc")
    assert data == (
        b'{"_inngest":{"status":"Completed"},"correlation_id":"01PARENT.abc","event":'
        + EVENT
        + b',"events":['
        b"" + ENTRY + b'],"function_id":"js-fn","result":{"n": 1.0},"run_id":"01RUN"}'
    )


def test_a_run_that_failed():
    error = ErrorInfo("NonRetriableError", "RangeError", "fn failed 1", "RangeError: x")
    data = failed_event_data("js-fn", "01RUN", EVENT, [EVENT, EVENT], b'{"message":"fn failed 1"}', error)
    value = json.loads(data)
    assert list(value) == sorted(value)
    assert value == {
        "_inngest": {"status": "Failed"},
        "error": {
            "error": "NonRetriableError",
            "message": "fn failed 1",
            "name": "RangeError",
            "stack": "RangeError: x",
        },
        "event": json.loads(EVENT),
        "events": [json.loads(ENTRY)] * 2,
        "function_id": "js-fn",
        "result": {"message": "fn failed 1"},
        "run_id": "01RUN",
    }


def test_a_run_that_was_cancelled():
    assert json.loads(cancelled_event_data("js-fn", "01RUN", EVENT, [EVENT])) == {
        "_inngest": {"status": "Cancelled"},
        "event": json.loads(EVENT),
        "events": [json.loads(ENTRY)],
        "function_id": "js-fn",
        "run_id": "01RUN",
    }


def test_only_an_empty_user_at_the_end_of_an_event_is_left_out_of_the_list():
    for event in (
        b'{"data":{"user":{}},"id":"1"}',
        b'{"id":"1","data":{"x":1,"user":{}}}',
        b'{"data":{},"user":{"a":1}}',
        b'{"data":{},"user":{},"v":"1"}',
    ):
        data = finished_event_data("f", "r", event, [event], b"1")
        assert json.loads(data)["events"] == [json.loads(event)]


INVOCATION = Invocation(
    fn_id="js-callee",
    correlation_id="01P.abc",
    expire=1795515147515,
    name="inv",
    source_app_id="app",
    source_fn_id="fn",
)


def test_a_function_that_a_step_invoked():
    assert invoked_event_data(b'{"x": 21}', INVOCATION) == (
        b'{"_inngest":{"correlation_id":"01P.abc","expire":1795515147515,"fn_id":"js-callee","gid":"","name":"inv",'
        b'"source_app_id":"app","source_fn_id":"fn","source_fn_v":1},"x": 21}'
    )


def test_a_function_that_was_invoked_from_outside_any_run():
    assert json.loads(invoked_event_data(b" { } ", Invocation(fn_id="spy-zero"))) == {
        "_inngest": {
            "expire": 0,
            "fn_id": "spy-zero",
            "gid": "",
            "name": "",
            "source_app_id": "",
            "source_fn_id": "",
            "source_fn_v": 0,
        }
    }


def test_nobody_can_pass_for_a_step_that_invokes():
    for forged in (b'{"_inngest":{"correlation_id":"x"},"a":1}', rb'{"a":1,"\u005finngest":{}}'):
        text = invoked_event_data(forged, INVOCATION)
        assert json.loads(text)["_inngest"]["correlation_id"] == "01P.abc"
        assert json.loads(text, object_pairs_hook=len) == 2
    nested = b'{"a":{"_inngest":1},"t":"\\u00e9"}'
    assert json.loads(invoked_event_data(nested, INVOCATION))["a"] == {"_inngest": 1}


def test_the_trace_context_is_told_if_there_is_one():
    invocation = Invocation(fn_id="f", traceparent="00-a-b-01", span_id="b", ts="2026-11-24T10:11:57Z")
    assert json.loads(invocation.json())["tc"] == {
        "ctx": {"sid": "b", "traceparent": "00-a-b-01"},
        "ts": "2026-11-24T10:11:57Z",
    }


def test_a_schedule_that_came_due():
    assert scheduled_event_data("* * * * *", "2026-11-24T10:11:00Z", "2026-11-24T10:11:01Z") == (
        b'{"cron":"* * * * *","fireAt":"2026-11-24T10:11:01Z","scheduledAt":"2026-11-24T10:11:00Z"}'
    )
