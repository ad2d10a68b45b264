from __future__ import annotations

import msgspec
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from inngest.connect._internal import connect_pb2 as pb

from perdure.protocol.connect import messages
from perdure.protocol.connect.messages import (
    CheckpointAck,
    CheckpointEntry,
    ConnectMessage,
    Extensions,
    Kind,
    agreed,
    decode_checkpoint_acks,
    decode_checkpoints,
    encode_checkpoint_acks,
    encode_checkpoints,
    read_extensions,
)
from perdure.protocol.connect.wire import (
    Message,
    WireError,
    decode,
    encode,
    join_delimited,
    split_delimited,
    varint,
)

ORACLE = [
    "ConnectMessage",
    "AppConfiguration",
    "AuthData",
    "SystemAttributes",
    "WorkerConnectRequestData",
    "GatewayConnectionReadyData",
    "GatewayExecutorRequestData",
    "WorkerRequestAckData",
    "WorkerRequestExtendLeaseData",
    "WorkerRequestExtendLeaseAckData",
    "SDKResponse",
    "WorkerReplyAckData",
    "FlushResponse",
    "StartRequest",
    "StartResponse",
    "SystemError",
]
"""Messages that the official Python SDK has too."""
NEWER = {"GatewayConnectionReadyData": {"status_interval", "perdure"}}
"""Fields that its copy of the protocol does not know."""
KNOWN_ENUMS = {("ConnectMessage", "kind"): 15, ("SDKResponse", "status"): 2}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


def values_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Messages of a kind, with every combination of fields."""
    return st.builds(kind, **{name: field(kind, name) for name in kind.__struct_fields__})


def field(kind: type[Message], name: str) -> st.SearchStrategy[object]:
    bound = KNOWN_ENUMS.get((kind.__name__, name))
    if bound is not None:
        return st.integers(0, bound)
    hint = kind.__annotations__.get(name) or kind.__mro__[1].__annotations__[name]
    inner = hint.removeprefix("Annotated[").partition(",")[0]
    optional = inner.endswith("| None")
    inner = inner.removesuffix(" | None")
    form = hint.rpartition("Form.")[2].rstrip("]")
    if inner == "int":
        bits = {"INT32": (-(2**31), 2**31 - 1), "INT64": (-(2**63), 2**63 - 1), "UINT32": (0, 2**32 - 1)}
        strategy: st.SearchStrategy[object] = st.integers(*bits[form])
    elif inner == "list[AppConfiguration]":
        strategy = st.lists(values_of(messages.AppConfiguration), max_size=3)
    else:
        simple = {
            "str": TEXT,
            "bytes": st.binary(max_size=300),
            "bool": st.booleans(),
            "list[str]": st.lists(TEXT, max_size=4),
        }
        strategy = simple[inner] if inner in simple else values_of(getattr(messages, inner))
    return st.none() | strategy if optional else strategy


def as_oracle(message: Message) -> object:
    """The same message, as Google's library has it."""
    oracle = google(type(message))()
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if value is None or name in NEWER.get(type(message).__name__, ()):
            continue
        if isinstance(value, Message):
            sub = getattr(oracle, name)
            sub.SetInParent()
            sub.MergeFrom(as_oracle(value))
        elif isinstance(value, list):
            getattr(oracle, name).extend(as_oracle(v) if isinstance(v, Message) else v for v in value)
        else:
            setattr(oracle, name, value)
    return oracle


def google(kind: type[Message]) -> type:
    if kind is messages.Timestamp:
        from google.protobuf.timestamp_pb2 import Timestamp

        return Timestamp
    found: type = getattr(pb, kind.__name__)
    return found


def kinds() -> list[type[Message]]:
    return [getattr(messages, name) for name in ORACLE]


def kinds_the_same() -> list[type[Message]]:
    """Without those of which Google's copy lacks fields, and so does not look at what is in them."""
    return [kind for kind in kinds() if kind.__name__ not in NEWER]


def without_newer(message: Message) -> Message:
    changes = {name: type(getattr(message, name))() for name in NEWER.get(type(message).__name__, ())}
    return msgspec.structs.replace(message, **changes)


@pytest.mark.parametrize("kind", kinds(), ids=ORACLE)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_google_reads_what_is_written_and_the_other_way_round(kind, data):
    message = data.draw(values_of(kind))
    written = encode(message)
    assert decode(written, kind) == message
    oracle = google(kind)()
    oracle.ParseFromString(written)
    oracle.DiscardUnknownFields()
    expected = as_oracle(message)
    assert oracle == expected
    assert decode(expected.SerializeToString(), kind) == without_newer(message)


@pytest.mark.parametrize("kind", kinds_the_same(), ids=lambda kind: kind.__name__)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_refused_where_google_refuses_them(kind, data):
    written = bytearray(encode(data.draw(values_of(kind))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(written)))
        what = data.draw(st.sampled_from(["cut", "put", "change"]))
        if what == "cut":
            del written[at:]
        elif what == "put":
            written[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        elif at < len(written):
            written[at] = data.draw(st.integers(0, 255))
    same_verdict(kind, bytes(written))


@settings(max_examples=400, deadline=None)
@given(garbage=st.binary(max_size=40), kind=st.sampled_from(kinds_the_same()))
def test_garbage_is_judged_as_google_judges_it(garbage, kind):
    same_verdict(kind, garbage)


def same_verdict(kind: type[Message], data: bytes) -> None:
    oracle = google(kind)()
    try:
        oracle.ParseFromString(data)
    except DecodeError:
        with pytest.raises(WireError):
            decode(data, kind)
        return
    oracle.DiscardUnknownFields()
    read = without_newer(decode(data, kind))
    assert as_oracle(read).SerializeToString() == oracle.SerializeToString()


def test_fields_that_are_unknown_or_of_another_type_are_skipped():
    unknown = b"".join(
        (
            varint(90 << 3 | 0) + varint(7),
            varint(91 << 3 | 1) + bytes(8),
            varint(92 << 3 | 2) + b"\x03abc",
            varint(93 << 3 | 5) + bytes(4),
            varint(94 << 3 | 3) + b"\x08\x01" + varint(94 << 3 | 4),
            varint(1 << 3 | 0) + varint(5),  # request_id as a number
        )
    )
    known = encode(messages.WorkerReplyAckData("r"))
    assert decode(unknown + known + unknown, messages.WorkerReplyAckData).request_id == "r"


def test_an_embedded_message_that_comes_twice_is_merged_and_a_value_is_replaced():
    first = encode(
        messages.WorkerConnectRequestData(connection_id="a", auth_data=messages.AuthData("s", "t"))
    )
    second = encode(messages.WorkerConnectRequestData(connection_id="b", auth_data=messages.AuthData("u")))
    read = decode(first + second, messages.WorkerConnectRequestData)
    assert (read.connection_id, read.auth_data) == ("b", messages.AuthData("u", "t"))


def test_groups_within_groups_end_somewhere():
    with pytest.raises(WireError, match="nested too deeply"):
        decode(b"\xf3\x05" * 5_000, ConnectMessage)


def test_a_kind_that_is_not_known_is_a_number():
    assert decode(encode(ConnectMessage(4711, b"x")), ConnectMessage) == ConnectMessage(4711, b"x")
    assert decode(encode(ConnectMessage(Kind.WORKER_REPLY)), ConnectMessage).kind == Kind.WORKER_REPLY


@given(parts=st.lists(st.binary(max_size=400), max_size=6), cut=st.integers(1, 3))
def test_a_bundle_comes_apart_as_it_was_made(parts, cut):
    bundle = join_delimited(parts)
    assert split_delimited(bundle) == parts
    if parts and len(parts[-1]) >= cut:
        with pytest.raises(WireError, match="cut short"):
            split_delimited(bundle[:-cut])


def test_checkpoints_and_their_answers():
    entries = [
        CheckpointEntry(1, "run", "fn", "qi", "request", 3, b"[{}]"),
        CheckpointEntry(2, "run2", "fn", "qi2", "request2", None, b"[]"),
    ]
    assert decode_checkpoints(encode_checkpoints(entries)) == entries
    acks = [CheckpointAck(1, 200), CheckpointAck(2, 409, "stale dispatch")]
    assert decode_checkpoint_acks(encode_checkpoint_acks(acks)) == acks
    for read in (decode_checkpoints, decode_checkpoint_acks):
        with pytest.raises(WireError):
            read(b"\x91\x01")


def test_extensions_are_what_both_sides_name():
    capabilities = b'{"trust_probe":"v1","perdure":{"checkpoints":2,"logs":1,"other":5}}'
    asked = read_extensions(capabilities)
    assert asked == Extensions(checkpoints=2, logs=1)
    assert agreed(asked, Extensions(1, 1, 1)) == Extensions(checkpoints=1, logs=1)
    for nothing in (b"", b"{}", b"[]", b'{"perdure":7}', b"\xff"):
        assert read_extensions(nothing) == Extensions()
