"""Queries that nobody has thought of: each gets an answer, none an error of the server's own."""

from __future__ import annotations

from importlib import resources

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import nodes, queries

from perdure.server.graphql.endpoint import UNEXPECTED
from tests.integration.graphql.conftest import Graphql
from tests.integration.graphql.test_golden_traces import RUN_TRACE
from tests.sdk.bare_app import Answer, Scripted, ops, ran

SCHEMA = resources.files("perdure.server.graphql").joinpath("schema.graphql").read_text("utf-8")
ENDED: list[str] = []
"""Ids of runs that there are, and of what belongs to them."""

TIMES = ("2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")
TEXTS = ("2026-01-01T00:00:00Z", "x", "", "01HZZZZZZZZZZZZZZZZZZZZZZZ", "known")
texts = st.sampled_from(TEXTS).map(lambda text: ENDED[0] if text == "known" and ENDED else text)
scalars = {name: texts.map(nodes.String) for name in ("Time", "ULID", "UUID", "Bytes", "Map", "Unknown")}


@pytest.fixture(scope="module")
def a_run(server, bare) -> str:
    function = Scripted.make(server, bare, [ops(ran("a", 1)), Answer(200, {"b": 2})])
    ENDED.append(function.run()["run_id"])
    return ENDED[0]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(query=queries(SCHEMA, custom_scalars=scalars))
def test_valid_queries_are_answered(graphql: Graphql, a_run: str, query: str):
    check(graphql, query)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, len(RUN_TRACE) - 1), length=st.integers(0, 30), put=st.text(max_size=8))
def test_damaged_queries_are_refused_or_answered(
    graphql: Graphql, a_run: str, at: int, length: int, put: str
):
    check(graphql, RUN_TRACE[:at] + put + RUN_TRACE[at + length :], runID=a_run, p=True)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    first=st.integers(-(2**33), 2**33),
    after=st.text(max_size=20),
    since=st.one_of(
        st.sampled_from(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]), st.text()
    ),
    query=st.one_of(st.sampled_from(["event.data.x == 1", "output > 1", "1/0 == 1"]), st.text(max_size=30)),
)
def test_any_arguments(graphql: Graphql, a_run: str, first: int, after: str, since: str, query: str):
    events = (
        "query($n:Int!,$a:String,$f:EventsFilter!){eventsV2(first:$n,after:$a,filter:$f)"
        "{totalCount edges{node{id}}}}"
    )
    runs = (
        "query($n:Int!,$a:String,$f:RunsFilterV2!){runs(first:$n,after:$a,filter:$f,orderBy:[])"
        "{totalCount edges{node{id}}}}"
    )
    for text in (events, runs):
        for filters in ({"from": since}, {"from": "2026-01-01T00:00:00Z", "query": query, "until": since}):
            check(graphql, text, n=first, a=after, f=filters)


def check(graphql: Graphql, query: str, **variables: object) -> None:
    answer = graphql.post(query, **variables)
    assert answer.status_code in (200, 422), answer.text
    assert UNEXPECTED not in answer.text, answer.text
    errors = answer.json().get("errors", [])
    assert answer.status_code == 200 or errors
    assert all(error["message"] for error in errors)
