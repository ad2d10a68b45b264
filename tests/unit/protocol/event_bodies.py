"""Request bodies of events, good and bad, and what is read from them in whatever pieces."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import strategies as st

from perdure.protocol.events import MAX_BODY_BYTES, EventReader, IncomingEvent
from perdure.protocol.ids import Seed

NOW = 1795515123170
SEED = Seed(NOW, bytes(range(10)))
FIRST, SECOND = "01M86GN1F2000G40R40M30E20A", "01M86GN1F2000G40R40M30E20B"


def read(
    body: bytes,
    cuts: list[int] | None = None,
    content_type: str = "application/json",
    max_body: int = MAX_BODY_BYTES,
    seed: Seed | None = SEED,
) -> EventReader:
    reader = EventReader(seed, NOW, bytes, content_type, max_body)
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts or [])})
    for start, end in pairwise(places):
        reader.feed(body[start:end])
    reader.finish()
    return reader


def outcome(reader: EventReader) -> tuple[list[IncomingEvent], int, str]:
    error = reader.error
    return reader.events, error.status if error else 200, error.message if error else ""


names = st.text(max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
event_like = st.fixed_dictionaries(
    {},
    optional={
        "name": names | json_values,
        "data": st.dictionaries(st.text() | st.just("_inngest"), json_values, max_size=3) | json_values,
        "id": st.text(max_size=5) | json_values,
        "ts": st.integers(0, 2**43) | json_values,
        "user": st.dictionaries(st.text(), json_values, max_size=2) | json_values,
        "v": st.text(max_size=3) | json_values,
        "meta": json_values
        | st.fixed_dictionaries({"sessions": st.dictionaries(st.text(), json_values, max_size=3)}),
    },
)
good_event = st.fixed_dictionaries(
    {"name": st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=7)},
    optional={
        "data": st.dictionaries(st.text(), json_values, max_size=3),
        "ts": st.integers(315532800000, 4102444800000),
    },
)
bodies = (
    st.binary()
    | st.text(alphabet='[]{},":\\ \n01e-nametsiduull').map(str.encode)
    | st.builds(
        lambda value, escaped, indent: json.dumps(value, ensure_ascii=escaped, indent=indent).encode(),
        st.lists(event_like | good_event, max_size=5) | event_like | json_values,
        st.booleans(),
        st.sampled_from([None, 1]),
    )
)
