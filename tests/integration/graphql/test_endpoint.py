"""The endpoint itself: statuses, refusals, bounds."""

from __future__ import annotations

import httpx
import pytest

from tests.integration.graphql.conftest import Graphql
from tests.sdk.bare_app import BareApp, function_config, register


def nested(depth: int) -> str:
    """A query that is so many fields deep."""
    inner = "childrenSpans{" * (depth - 2) + "name" + "}" * (depth - 2)
    return '{runTrace(runID:"x"){run{id} ' + inner + "}}"


class TestStatuses:
    def test_a_query_that_runs_is_200(self, graphql: Graphql):
        answer = graphql.post("{__typename apps{id}}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["data"]["__typename"] == "Query"

    def test_so_is_one_whose_execution_fails(self, graphql: Graphql):
        query = "query($r:String!){run(runID:$r){id}}"
        answer = graphql.post(query, r="01HZZZZZZZZZZZZZZZZZZZZZZZ")
        assert answer.status_code == 200
        body = answer.json()
        assert body["data"] == {"run": None}
        assert body["errors"][0]["path"] == ["run"]
        assert body["errors"][0]["message"].startswith("error retrieving run")

    @pytest.mark.parametrize(
        ("query", "variables", "text"),
        [
            ("{nope}", {}, "Cannot query field"),
            ("query($r:String!){run(runID:$r){id}}", {}, "$r"),
            ("query($r:String!){run(runID:$r){id}}", {"r": 7}, "$r"),
            ('{run(runID:"x")}', {}, "selection"),
            ("query A{__typename} query B{__typename}", {}, "operation"),
        ],
        ids=["field", "missing variable", "wrong variable", "no selection", "which operation"],
    )
    def test_one_that_does_not_fit_the_schema_is_422(
        self, graphql: Graphql, query: str, variables: dict[str, object], text: str
    ):
        answer = graphql.server.http.post("/v0/gql", json={"query": query, "variables": variables})
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["extensions"] == {"code": "GRAPHQL_VALIDATION_FAILED"}
        assert text in error["message"]
        assert answer.json()["data"] is None

    @pytest.mark.parametrize("query", ["{", "", "{a(b:}", "\x00"])
    def test_one_that_cannot_be_read_is_422(self, graphql: Graphql, query: str):
        answer = graphql.post(query)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["extensions"] == {"code": "GRAPHQL_PARSE_FAILED"}

    @pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
    def test_a_body_that_is_not_called_json_is_400(self, graphql: Graphql, kind: str):
        answer = graphql.server.http.post(
            "/v0/gql", content=b'{"query":"{__typename}"}', headers={"content-type": kind}
        )
        assert answer.status_code == 400
        assert answer.json() == {"errors": [{"message": "transport not supported"}], "data": None}

    @pytest.mark.parametrize(
        "body", [b"", b"[]", b"{", b'{"query":1}', b'{"query":"{a}","variables":[]}', b"\xff"]
    )
    def test_a_body_that_is_no_request_is_400(self, graphql: Graphql, body: bytes):
        answer = graphql.server.http.post(
            "/v0/gql", content=body, headers={"content-type": "application/json; charset=utf-8"}
        )
        assert answer.status_code == 400
        assert "JSON object" in answer.json()["errors"][0]["message"]

    def test_get_is_405(self, graphql: Graphql):
        assert graphql.server.http.get("/v0/gql").status_code == 405

    def test_a_page_of_another_host_changes_nothing(self, graphql: Graphql):
        answer = httpx.post(
            f"{graphql.server.url}/v0/gql",
            json={"query": "{__typename}"},
            headers={"origin": "https://evil.example"},
        )
        assert answer.status_code == 403

    def test_the_operation_can_be_named(self, graphql: Graphql):
        body = {"query": "query A{a:__typename} query B{b:__typename}", "operationName": "B"}
        assert graphql.server.http.post("/v0/gql", json=body).json() == {"data": {"b": "Query"}}


class TestRefusals:
    def test_nesting_up_to_fifteen_fields(self, graphql: Graphql):
        assert graphql.post(nested(15)).status_code == 200
        answer = graphql.post(nested(16))
        assert answer.status_code == 422
        assert "16 fields deep; 15 are allowed" in answer.json()["errors"][0]["message"]
        assert answer.json()["errors"][0]["extensions"] == {"code": "GRAPHQL_TOO_COMPLEX"}

    def test_very_deep_nesting(self, graphql: Graphql):
        for text in ("{a" * 3000 + "}" * 3000, "{a(b:" + "[" * 3000 + "]" * 3000 + ")}"):
            answer = graphql.post(text)
            assert answer.status_code == 422
            assert "GRAPHQL" in answer.json()["errors"][0]["extensions"]["code"]

    def test_nesting_hidden_in_fragments(self, graphql: Graphql):
        parts = [f"fragment F{n} on App{{functions{{app{{...F{n + 1}}}}}}}" for n in range(9)]
        answer = graphql.post("{apps{...F0}}" + "".join(parts) + "fragment F9 on App{id}")
        assert answer.status_code == 422
        assert "deep" in answer.json()["errors"][0]["message"]

    def test_width_hidden_in_fragments(self, graphql: Graphql):
        parts = [f"fragment F{n} on App{{...F{n + 1} ...F{n + 1}}}" for n in range(12)]
        answer = graphql.post("{apps{...F0}}" + "".join(parts) + "fragment F12 on App{id}")
        assert answer.status_code == 422
        assert "4097 fields; 1000 are allowed" in answer.json()["errors"][0]["message"]

    def test_a_fragment_within_itself(self, graphql: Graphql):
        answer = graphql.post("{apps{...F}} fragment F on App{functions{app{...F}}}")
        assert answer.status_code == 422
        assert "F" in answer.json()["errors"][0]["message"]

    def test_many_questions_at_once(self, graphql: Graphql):
        fields = " ".join(f"a{n}:apps{{id}}" for n in range(21))
        answer = graphql.post("{" + fields + "}")
        assert answer.status_code == 422
        assert "21 questions at once" in answer.json()["errors"][0]["message"]

    def test_a_long_text(self, graphql: Graphql):
        answer = graphql.post("{__typename #" + "x" * 70_000 + "\n}")
        assert answer.status_code == 422
        assert "65536 bytes" in answer.json()["errors"][0]["message"]

    def test_lists_that_multiply(self, graphql: Graphql, bare: BareApp):
        register(graphql.server, bare, "many", [function_config(bare, f"many-{n}") for n in range(40)])
        # Each level gives every function once more for each: the text is small, the answer is not.
        inner = "id"
        for _ in range(5):
            inner = f"functions{{app{{{inner}}}}}"
        assert "more than 400000 fields. Ask for less" in graphql.error(f"{{apps{{{inner}}}}}")

    @pytest.mark.parametrize("first", [0, -1, 401])
    def test_pages_out_of_range(self, graphql: Graphql, first: int):
        query = f'{{eventsV2(first:{first},filter:{{from:"2026-01-01T00:00:00Z"}}){{totalCount}}}}'
        assert "first is" in graphql.error(query)

    def test_introspection_is_answered_within_bounds(self, graphql: Graphql):
        types = graphql.ask("{__schema{types{name kind}}}")["__schema"]["types"]
        assert {"name": "RunTraceSpan", "kind": "OBJECT"} in types
        deep = "{__schema{types{fields{type{fields{type{fields{type{fields{type{name}}}}}}}}}}}"
        assert graphql.post(deep).status_code == 422


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ('{debugRun(query:{functionSlug:"x"})}', "not offered"),
        ('{debugSession(query:{functionSlug:"x"})}', "not offered"),
        ('mutation{createDebugSession(input:{functionSlug:"x"})}', "not offered"),
        ('{functionBySlug(query:{functionSlug:"nope"}){id}}', "no function 'nope'"),
        ('{eventV2(id:"01HZZZZZZZZZZZZZZZZZZZZZZZ"){id}}', "event not found: 01HZ"),
        ('{event(query:{eventId:"01HZZZZZZZZZZZZZZZZZZZZZZZ"}){id}}', "event not found"),
        ('{run(runID:"bad"){id}}', "error parsing runID"),
        ('{runTrigger(runID:"bad"){IDs}}', "error parsing runID"),
        ('{runTrigger(runID:"01HZZZZZZZZZZZZZZZZZZZZZZZ"){IDs}}', "error retrieving run"),
        ('{runTraceSpanOutputByID(outputID:"bad"){data}}', "error parsing span identifier"),
        ('{runTraceSpanOutputByID(outputID:"YTpiOmM="){data}}', "error parsing span identifier"),
        ('{functionRun(query:{functionRunId:"01HZZZZZZZZZZZZZZZZZZZZZZZ"}){id}}', "error retrieving run"),
        ('{eventsV2(filter:{from:"today"}){totalCount}}', "filter.from is 'today'"),
        ('{eventsV2(after:"%",filter:{from:"2026-01-01T00:00:00Z"}){totalCount}}', "not a cursor"),
        ('{eventsV2(filter:{from:"2026-01-01T00:00:00Z",query:"event. =="}){totalCount}}', "no CEL expression"),
        ('mutation{rerun(runID:"01HZZZZZZZZZZZZZZZZZZZZZZZ")}', "error retrieving run"),
        ('mutation{cancelRun(runID:"01HZZZZZZZZZZZZZZZZZZZZZZZ"){id}}', "error retrieving run"),
        ('mutation{invokeFunction(functionSlug:"nope",data:{a:1})}', "could not find function with ID: nope"),
        ('mutation{deleteApp(id:"nope")}', "no app 'nope'"),
        ('mutation{deleteAppByName(name:"nope")}', "no app 'nope'"),
        ('mutation{updateApp(input:{id:"nope",url:"http://x"}){id}}', "no app 'nope'"),
        ('mutation{createApp(input:{url:"ftp://x"}){id}}', "not a URL"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_an_error_with_a_reason(graphql: Graphql, query: str, text: str):
    assert text in graphql.error(query)


def test_nobody_is_connected(graphql: Graphql):
    query = (
        "{workerConnections(first:5,orderBy:[],filter:{}){edges{node{id}} totalCount pageInfo{hasNextPage}}}"
    )
    assert graphql.ask(query)["workerConnections"] == {
        "edges": [],
        "totalCount": 0,
        "pageInfo": {"hasNextPage": False},
    }
