"""What the pages of events ask for: the types of events, and what became of one."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.server.conftest import Make
from tests.integration.server.test_page_api import Api, finished
from tests.sdk.bare_app import Answer
from tests.sdk.driver import Server


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get("/api/openapi.json").json()
    return found


@pytest.fixture
def api(http: httpx.Client, document: dict[str, Any]) -> Api:
    return Api(http, document)


class TestTypes:
    def test_names_that_came_and_names_that_functions_know(
        self, api: Api, server: Server, scripted: Make
    ) -> None:
        fn = scripted(
            [], triggers=[{"event": "types/known"}, {"event": "types/seen.*", "expression": "true"}]
        )
        server.send(
            *({"name": "types/seen.often", "data": {}} for _ in range(3)), {"name": "types/other", "data": {}}
        )
        found = api("GET", "/api/event-types")
        types = {one["name"]: one for one in found["types"]}
        assert (types["types/seen.often"]["count"], types["types/other"]["count"]) == (3, 1)
        assert types["types/other"]["uses"] == []
        assert (types["types/known"]["count"], types["types/known"]["last_at"]) == (0, None)
        (use,) = types["types/seen.often"]["uses"]
        assert (use["function"], use["how"], use["pattern"], use["expression"]) == (
            fn.slug,
            "start",
            "types/seen.*",
            "true",
        )
        assert "types/seen.*" not in types, "a pattern is no event"
        counts = [one["count"] for one in found["types"]]
        assert counts == sorted(counts, reverse=True)
        assert found["whole"] is True

    def test_the_schema_of_one(self, api: Api, server: Server, scripted: Make) -> None:
        fn = scripted([], cancel=[{"event": "schema/order", "if": "async.data.id == event.data.id"}])
        server.send(
            {"name": "schema/order", "data": {"id": 1, "items": [{"sku": "a"}]}},
            {"name": "schema/order", "data": {"id": "two", "note": None}},
        )
        shown = api("GET", "/api/event-types/schema%2Forder")
        fields = {one["path"]: (sorted(one["types"]), one["optional"]) for one in shown["fields"]}
        assert fields == {
            "id": (["number", "string"], False),
            "note": (["null"], True),
            "items": (["array"], True),
            "items[]": (["object"], False),
            "items[].sku": (["string"], False),
        }
        assert (shown["payloads"], shown["more"]) == (2, False)
        assert shown["example"]["data"] == {"id": "two", "note": None}
        assert [(one["function"], one["how"]) for one in shown["uses"]] == [(fn.slug, "cancel")]

    def test_one_that_nobody_has_sent(self, api: Api, scripted: Make) -> None:
        fn = scripted([])
        shown = api("GET", f"/api/event-types/bare%2F{fn.slug}")
        assert (shown["fields"], shown["example"], shown["last_at"]) == ([], None, None)
        assert "no event named 'ghost'" in api.refused("GET", "/api/event-types/ghost", 404)


class TestWhatBecameOfAnEvent:
    def test_it_started_a_run(self, api: Api, server: Server, scripted: Make) -> None:
        fn = scripted(lambda call: Answer(200, None))
        event = fn.trigger()
        run_id = finished(server, event, fn.slug)
        (fate,) = api("GET", f"/api/events/{event}/why")["fates"]
        assert (fate["function"], fate["fate"], fate["run_ids"]) == (fn.slug, "run", [run_id])

    def test_it_is_held_by_a_debounce(self, api: Api, server: Server, scripted: Make) -> None:
        fn = scripted([], debounce={"period": "1h"})
        (fate,) = api("GET", f"/api/events/{fn.trigger()}/why")["fates"]
        assert (fate["fate"], fate["run_ids"]) == ("debounced", [])
        assert "held by a debounce" in fate["text"]

    def test_there_is_none(self, api: Api) -> None:
        assert "there is no event" in api.refused("GET", "/api/events/x/why", 404)
