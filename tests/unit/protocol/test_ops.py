"""Ops as official SDKs write them, and as nobody should."""

from __future__ import annotations

import json

import pytest

from perdure.protocol.ops import OPS, Op, OpsError, read_ops


def one(**fields):
    (op,) = read_ops(json.dumps([fields]).encode())
    return op


def test_a_python_op_with_nulls_for_what_it_does_not_say():
    op = one(
        displayName="flaky",
        id="0612",
        name="flaky",
        op="StepError",
        opts=None,
        userland={"id": "flaky", "index": None},
        error={"code": "unknown", "message": "boom 0", "name": "TypeError", "stack": "Traceback"},
        data=None,
    )
    assert op == Op(
        "StepError",
        "0612",
        "flaky",
        "flaky",
        error=b'{"code": "unknown", "message": "boom 0", "name": "TypeError", "stack": "Traceback"}',
        userland_id="flaky",
    )


def test_a_checkpointed_javascript_op_with_all_its_private_keys():
    op = one(
        id="dd33",
        mode="sync",
        op="StepRun",
        name="s3",
        displayName="s3",
        userland={"id": "s3"},
        opts={},
        rawArgs=["s3", None],
        hashedId="dd33",
        promise={},
        fulfilled=True,
        middleware={"stepInfo": {"memoized": False}},
        data=3,
        timing={"a": 1795515157577000000, "b": 0},
    )
    assert op == Op(
        "StepRun",
        "dd33",
        "s3",
        "s3",
        b"{}",
        b"3",
        userland_id="s3",
        timing=(1795515157577000000, 0),
    )


def test_a_bare_object_counts_as_a_list_of_one():
    assert read_ops(b'\n {"op":"StepRun","id":"aa","name":"single","data":1} ') == [
        Op("StepRun", "aa", "single", "single", None, b"1")
    ]


def test_no_ops_at_all():
    assert read_ops(b"[]") == []


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"displayName": "d", "name": "n", "userland": {"id": "u"}}, "d"),
        ({"displayName": "", "name": "n", "userland": {"id": "u"}}, "n"),
        ({"displayName": None, "name": None, "userland": {"id": "u", "index": 2}}, "u"),
        ({"userland": None}, "aa"),
        ({}, "aa"),
    ],
)
def test_which_name_is_shown(fields, shown):
    assert one(op="StepPlanned", id="aa", **fields).display_name == shown


def test_the_ops_of_the_protocol_are_known():
    assert {
        "None",
        "Step",
        "StepRun",
        "StepError",
        "StepFailed",
        "StepPlanned",
        "Sleep",
        "WaitForEvent",
        "InvokeFunction",
        "AIGateway",
        "Gateway",
        "WaitForSignal",
        "RunComplete",
        "SyncRunComplete",
        "DiscoveryRequest",
        "DeferAdd",
        "DeferAbort",
    } == OPS
    for op in OPS:
        assert one(op=op, id="aa", error={}).op == op


def test_the_other_spelling_of_the_model_op():
    assert one(op="AiGateway", id="aa").op == "AIGateway"


@pytest.mark.parametrize(
    ("opts", "race"),
    [
        ({"parallelMode": "race"}, True),
        ({"parallelMode": "RACE"}, True),
        ({"parallelMode": "wait"}, False),
        ({"parallelMode": None}, False),
        ({"parallelMode": 1}, False),
        ({}, False),
        (None, False),
    ],
)
def test_race_mode(opts, race):
    assert one(op="StepPlanned", id="aa", opts=opts).race is race


def test_type_and_input_of_a_step():
    op = one(op="StepRun", id="aa", opts={"type": "step.ai.wrap", "input": [1.0, {"big": 2**60}]})
    assert (op.step_type, op.input) == ("step.ai.wrap", b'[1.0, {"big": 1152921504606846976}]')
    op = one(op="StepRun", id="aa", opts={"type": None, "input": None})
    assert (op.step_type, op.input) == ("", None)


@pytest.mark.parametrize("opts", [[], "x", 1, True])
def test_options_that_are_no_object_are_none(opts):
    assert one(op="StepRun", id="aa", opts=opts).opts is None


def test_what_is_only_informational_may_be_misshapen():
    op = one(
        op="StepRun",
        id="aa",
        name=7,
        displayName=["x"],
        userland="u",
        timing={"a": 1.5, "b": "x"},
        data={"kept": 1},
        metadata=[{"kind": "k", "op": "merge", "values": {}}],
    )
    assert (op.name, op.display_name, op.userland_id, op.timing) == ("", "aa", "", None)
    assert op.data == b'{"kept": 1}'
    assert op.metadata == b'[{"kind": "k", "op": "merge", "values": {}}]'


def test_half_a_surrogate_pair_in_one_step_does_not_cost_the_others():
    first, second = read_ops(
        rb'[{"op":"StepRun","id":"a","data":"\ud800 \\ud800 \ud83d\ude00"},{"op":"StepRun","id":"b","data":1e21}]'
    )
    assert first.data == rb'"\ufffd \\ud800 \ud83d\ude00"'
    assert second.data == b"1e21"


def test_bytes_that_are_no_utf8_are_replaced():
    (op,) = read_ops(b'[{"op":"StepRun","id":"a","data":"\xff"}]')
    assert op.data == '"\ufffd"'.encode()


def test_a_failed_step_may_carry_its_error_as_data_only():
    assert one(op="StepFailed", id="aa", data={"name": "E"}).error == b'{"name": "E"}'
    assert one(op="StepFailed", id="aa", data={"name": "E"}, error=None).error == b'{"name": "E"}'


def test_a_step_that_ran_has_no_error():
    assert one(op="StepRun", id="aa", error={"name": "E"}).error is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "expected JSON object or array"),
        (b'"x"', "expected JSON object or array"),
        (b"[1]", "error reading generator opcode response"),
        (b"[null]", "error reading generator opcode response"),
        (b"[{}]", "error reading generator opcode response"),
        (b'[{"op":null}]', "error reading generator opcode response"),
        (b'[{"op":"StepRun","id":"a","data":{]', "error reading generator opcode response"),
        (b'[{"op":"","id":"a"}]', "does not belong to Opcode values"),
        (b'[{"op":"StepNotFound","id":"a"}]', "StepNotFound does not belong to Opcode values"),
        (b'[{"op":"StepRun","data":1}]', "the op StepRun has no id"),
        (b'[{"op":"Sleep","id":""}]', "the op Sleep has no id"),
        (b'[{"op":"Sleep","id":5}]', "the op Sleep has no id"),
        (b'[{"op":"StepError","id":"a"}]', "error validating generator opcode a: StepError carries no error"),
        (b'[{"op":"StepRun","id":"a","data":' + b"[" * 5000 + b"]" * 5000 + b"}]", "nests too deeply"),
    ],
)
def test_bodies_that_cannot_be_used(body, message):
    with pytest.raises(OpsError) as caught:
        read_ops(body)
    assert message in caught.value.message
    assert caught.value.too_large is None


def test_depth_is_bounded_with_half_a_surrogate_pair_too():
    body = rb'[{"op":"StepRun","id":"a","data":["\ud800",%b]}]'
    assert len(read_ops(body % (b"[" * 100 + b"]" * 100 + b",[]" * 500))) == 1
    with pytest.raises(OpsError, match="nests too deeply"):
        read_ops(body % (b"[" * 700 + b"]" * 700))


@pytest.mark.parametrize("op", ["None", "DiscoveryRequest", "RunComplete", "SyncRunComplete"])
def test_ops_that_save_nothing_need_no_id(op):
    assert one(op=op).id == ""


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"op": "StepRun", "data": "x" * 4_194_303}, "output"),
        ({"op": "StepError", "error": {"message": "x" * 4_194_300}}, "output"),
        ({"op": "StepRun", "opts": {"input": ["x" * 4_194_303]}}, "input"),
    ],
)
def test_steps_that_are_too_large_are_named(fields, what):
    with pytest.raises(OpsError) as caught:
        one(id="aa", **fields)
    assert caught.value.message == (
        f"error validating generator opcode aa: step {what} size is greater than the limit"
    )
    assert caught.value.too_large == "aa"
