"""Registrations as official SDKs send them, and what is answered."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import ExpressionError, RequestError
from perdure.protocol.registration import (
    RegistrationError,
    kind_mismatch,
    read_registration,
    register_answer,
    register_error,
)


def check_expression(text):
    if text.endswith("=="):
        raise ExpressionError("syntax error", 13)


def check_cron(text):
    if text == "never":
        raise ValueError("not a schedule")


def function(slug, **fields):
    url = f"http://127.0.0.1:3000/api/inngest?fnId={slug}&stepId=step"
    return {
        "id": slug,
        "name": slug,
        "triggers": [{"event": "a/b"}],
        "steps": {"step": {"id": "step", "name": "step", "runtime": {"type": "http", "url": url}}},
        **fields,
    }


JS = {
    "url": "http://127.0.0.1:3000/api/inngest",
    "deployType": "ping",
    "framework": "express",
    "appName": "js",
    "functions": [function("js-zero"), function("js-undef")],
    "sdk": "js:v4.24.0",
    "v": "0.1",
    "capabilities": {"trust_probe": "v1", "connect": "v1"},
    "featureObservations": {"sendEvents": {"readinessReason": "SEND_EVENTS_READINESS_REASON_READY"}},
}
PY = {
    "appname": "py",
    "capabilities": {"connect": "v1", "in_band_sync": "v1", "trust_probe": "v1"},
    "deploy_type": "ping",
    "framework": "fast_api",
    "functions": [function("py-zero")],
    "sdk": "py:v0.5.19",
    "url": "http://app/api/inngest",
    "v": "0.1",
}
IN_BAND = {
    "app_id": "my-app",
    "appVersion": "1.2",
    "capabilities": {"in_band_sync": "v1", "trust_probe": "v1"},
    "env": None,
    "framework": "fast_api",
    "functions": [function("my-app-fn")],
    "inspection": {"app_id": "my-app"},
    "platform": None,
    "sdk_author": "inngest",
    "sdk_language": "py",
    "sdk_version": "0.5.19",
    "url": "http://app/api/inngest",
}


def read(body, **more):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_registration(raw, check_expression=check_expression, check_cron=check_cron, **more)


def refused(body, **more):
    with pytest.raises(RegistrationError) as caught:
        read(body, **more)
    assert caught.value.status == 400
    return caught.value


def test_a_registration_of_javascript():
    got = read(JS)
    assert (got.url, got.app_name, got.sdk) == ("http://localhost:3000/api/inngest", "js", "js:v4.24.0")
    assert (got.sdk_language, got.sdk_version) == ("js", "4.24.0")
    assert (got.framework, got.version, got.deploy_type) == ("express", "0.1", "ping")
    assert got.capabilities == {"trust_probe": "v1", "connect": "v1"}
    assert [each.id for each in got.functions] == ["js-zero", "js-undef"]
    assert json.loads(got.functions[0].raw) == JS["functions"][0]


def test_a_registration_of_python_spells_names_its_own_way():
    got = read(PY)
    assert (got.app_name, got.sdk_language, got.sdk_version) == ("py", "py", "0.5.19")
    assert got.deploy_type == "ping"


def test_an_in_band_body():
    got = read(IN_BAND)
    assert (got.app_name, got.app_version, got.sdk) == ("my-app", "1.2", "py:v0.5.19")
    assert [each.id for each in got.functions] == ["my-app-fn"]


def test_a_registration_of_go():
    body = {**JS, "v": "1", "sdk": "go:v0.13.0", "headers": {"env": "", "platform": "railway"}}
    got = read({**body, "idempotencyKey": "k", "deployId": "d"})
    assert (got.version, got.sdk_language, got.platform) == ("1", "go", "railway")
    assert (got.idempotency_key, got.deploy_id) == ("k", "d")


@pytest.mark.parametrize("functions", [[], None])
def test_an_app_without_functions_is_taken(functions):
    assert read({**JS, "functions": functions}).functions == ()


def test_how_an_app_may_be_connected():
    assert read({**JS, "deployType": "connect"}).deploy_type == "connect"
    assert read({**JS, "deployType": None}).deploy_type == "ping"


def test_where_the_url_comes_from():
    body = {name: value for name, value in JS.items() if name != "url"}
    assert read(body, fallback_url="http://127.0.0.1:8080/x?probe=1").url == "http://localhost:8080/x"
    assert read(body).url == "http://localhost:3000/api/inngest"
    error = refused({**body, "functions": []})
    assert error.message.startswith("Invalid request: url is missing")


# The checksum


def test_the_checksum_tells_a_change_from_a_repetition():
    first = read(JS).checksum
    assert len(first) == 64
    assert read(JS).checksum == first
    assert read({**JS, "featureObservations": {"other": 1}, "deployId": "x"}).checksum == first
    assert read(dict(reversed(JS.items()))).checksum == first
    assert read({**JS, "framework": "next"}).checksum != first
    assert read({**JS, "functions": JS["functions"][:1]}).checksum != first


# Refusals


def test_mistakes_of_all_functions_are_told_at_once():
    error = refused(
        {
            **JS,
            "functions": [
                function("js-a", triggers=[{"event": "a", "expression": "event.data. =="}]),
                function("js-b"),
                function("js-c", concurrency=[{"limit": 1, "scope": "account"}], retries=-1),
                function("js-b"),
            ],
        }
    )
    assert error.message.startswith("At least one function is invalid:\n- ")
    assert error.code is None
    assert [(problem.function, problem.field, problem.code) for problem in error.problems] == [
        ("js-a", "triggers[0].expression", "config_invalid"),
        ("js-c", "concurrency[0].key", "concurrency_limit_invalid"),
        ("js-c", "retries", "config_invalid"),
        ("js-b", "id", "config_invalid"),
    ]
    body = json.loads(register_error(error))
    assert body["error"].startswith("At least one function is invalid:\n- ")
    assert body["status"] == 400
    assert "code" not in body
    assert body["data"][0] == {
        "function": "js-a",
        "field": "triggers[0].expression",
        "value": '"event.data. =="',
        "message": (
            'triggers[0].expression is "event.data. =="; it does not compile: '
            "line 1, column 14: syntax error.\n    event.data. ==\n                 ^"
        ),
        "code": "config_invalid",
    }
    assert str(error) == error.reason
    assert error.reason.startswith("At least one function is invalid:\n- js-a: triggers[0].expression is")


def test_a_refused_app_is_still_known_by_name_and_url_and_has_no_functions():
    error = refused({**JS, "functions": [function("x", retries=-1)]})
    assert error.registration is not None
    assert error.registration.app_name == "js"
    assert error.registration.url == "http://localhost:3000/api/inngest"
    assert error.registration.functions == ()


@pytest.mark.parametrize(
    "body", [{}, {"appName": "", "url": "http://x"}, {"appName": None}, {"appName": "  "}]
)
def test_an_app_without_a_name(body):
    error = refused(body)
    assert json.loads(register_error(error)) == {"error": "App ID required", "status": 400, "data": None}


@pytest.mark.parametrize("body", [b"{bad", b"", b"[]", b"null", b'"x"', b"[" * 100_000])
def test_a_body_that_is_no_json_object(body):
    error = refused(body)
    answer = json.loads(register_error(error))
    assert list(answer) == ["error"]
    assert answer["error"].startswith("Invalid request: ")


def test_functions_that_are_no_array():
    assert refused({**JS, "functions": {}}).message.startswith("Invalid request: functions must be an array")


@pytest.mark.parametrize(
    ("sdk", "denied"),
    [
        ("js:v3.21.9", False),
        ("js:v3.22.0", True),
        ("js:v3.30.0", True),
        ("inngest-js:v3.53.1", True),
        ("js:v3.53.9-beta.1", True),
        ("js:v3.54.0", False),
        ("js:v4.0.0", False),
        ("py:v3.30.0", False),
        ("js:canary", False),
        ("", False),
    ],
)
def test_javascript_sdks_with_a_known_hole_are_refused(sdk, denied):
    body = {**JS, "sdk": sdk, "functions": []}
    if not denied:
        assert read(body).functions == ()
        return
    error = refused(body)
    assert error.code == "sdk_version_denied"
    assert json.loads(register_error(error))["code"] == "sdk_version_denied"
    assert "3.54.0" in error.message


def test_half_a_surrogate_pair_in_a_name_is_no_reason_to_refuse():
    body = json.dumps(JS).replace('"name": "js-zero"', r'"name": "half \ud800"').encode()
    assert read(body).functions[0].name == "half \ufffd"


# Answers


def test_what_a_registered_app_is_told():
    assert json.loads(register_answer(modified=True, sync_id="s", app_id="a")) == {
        "ok": True,
        "modified": True,
        "sync_id": "s",
        "app_id": "a",
    }
    assert b'"modified":false' in register_answer(modified=False, sync_id="s", app_id="a")


def test_an_app_that_expects_another_kind_of_server():
    error = kind_mismatch("dev", "cloud")
    assert error.code == "server_kind_mismatch"
    assert register_error(error) == b'{"error":"Expected server kind dev, got cloud"}'


def test_other_errors_are_answered_in_the_same_envelope():
    error = RequestError(401, "Authentication failed")
    assert json.loads(register_error(error)) == {
        "error": "Authentication failed",
        "status": 401,
        "data": None,
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*JS, *PY, *IN_BAND, "id", "steps"]), inner, max_size=6)
    ),
    max_leaves=20,
)


@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_read_or_refused_with_an_answer(body):
    try:
        read(body)
    except RegistrationError as refusal:
        answer = json.loads(register_error(refusal))
    else:
        answer = {"error": "none"}
    assert answer["error"]
