"""End-to-end encryption: what the server sees, what the code sees, keys that change, and the official form."""

from __future__ import annotations

import base64
import json
from typing import Any

import inngest
import msgspec
import nacl.encoding
import nacl.hash
import nacl.secret
import pytest
from inngest_encryption import EncryptionMiddleware
from pydantic import BaseModel

import perdure
from perdure.middleware import Encryption, Payload
from tests.unit.sdk.calls import Told, call, h, make_app
from tests.unit.sdk.test_middleware import Record

KEY = "a long random text"


def official_box(key: str) -> nacl.secret.SecretBox:
    """A box made as the official packages make it."""
    hashed = nacl.hash.generichash(key.encode(), digest_size=nacl.secret.SecretBox.KEY_SIZE)
    return nacl.secret.SecretBox(hashed, encoder=nacl.encoding.HexEncoder)


def sealed(value: Any, key: str = KEY) -> dict[str, Any]:
    data = official_box(key).encrypt(json.dumps(value).encode(), encoder=nacl.encoding.Base64Encoder)
    return {"__ENCRYPTED__": True, "__STRATEGY__": "inngest/libsodium", "data": data.decode()}


def opened(value: Any, key: str = KEY) -> Any:
    assert set(value) == {"__ENCRYPTED__", "__STRATEGY__", "data"}
    assert (value["__ENCRYPTED__"], value["__STRATEGY__"]) == (True, "inngest/libsodium")
    return json.loads(official_box(key).decrypt(value["data"].encode(), encoder=nacl.encoding.Base64Encoder))


class Card(BaseModel):
    number: str


class Payment(BaseModel):
    order: int
    encrypted: Card | None = None


def app_of(*keys: str | bytes, **options: Any) -> perdure.App:
    app = make_app(middleware=[Encryption(*keys, **options)])

    @app.function(perdure.event("unit/go", Payment))
    async def pay(payment: Payment, step: perdure.Step) -> Payment:
        assert payment.encrypted is not None
        card = await step.run("charge", charge, payment.encrypted)
        return Payment(order=payment.order, encrypted=card)

    return app


def charge(card: Card) -> Card:
    return Card(number=card.number[::-1])


EVENT = {"data": {"order": 7, "encrypted": sealed({"number": "123"})}}


async def test_the_server_sees_nothing_and_the_code_everything() -> None:
    app = app_of(KEY)
    ran = await call(app, "pay", EVENT)
    assert ran.ops == [("StepRun", "charge")]
    assert opened(ran.body[0]["data"]) == {"number": "321"}
    assert b"321" not in ran.raw.body
    done = await call(app, "pay", EVENT, {h("charge"): {"data": sealed({"number": "9"})}})
    assert opened(done.body) == {"order": 7, "encrypted": {"number": "9"}}


async def test_of_an_event_one_field_is_encrypted() -> None:
    app = app_of(KEY)
    record = Record(app)
    await app.send(Payment(order=7, encrypted=Card(number="123")), perdure.Event("unit/b", {"n": 1}))
    first, second = record.bodies.pop()
    assert first["data"]["order"] == 7
    assert opened(first["data"]["encrypted"]) == {"number": "123"}
    assert second["data"] == {"n": 1}
    app = app_of(KEY, event_field="secret")
    record = Record(app)
    await app.send(perdure.Event("unit/b", {"n": 1, "secret": [1], "encrypted": 2}))
    (sent,) = record.bodies.pop()
    assert (sent["data"]["n"], sent["data"]["encrypted"]) == (1, 2)
    assert opened(sent["data"]["secret"]) == [1]
    await app.send(perdure.Event("unit/b", {"secret": sealed(5)}))
    assert opened(record.bodies.pop()[0]["data"]["secret"]) == 5, "what is encrypted already stays so"


async def test_the_arguments_of_ai_wrap_and_of_an_invoke() -> None:
    app = make_app(middleware=[Encryption(KEY)])

    @app.function("unit/go")
    async def ask(step: perdure.Step) -> Any:
        return await step.ai.wrap("ask", lambda text: text.upper(), "my secret")

    @app.function("unit/go")
    async def calls(step: perdure.Step) -> Any:
        return await step.invoke("call", "other-fn", {"n": 1, "encrypted": "my secret"})

    told = await call(app, "ask")
    assert opened(told.body[0]["opts"]["input"]) == ["my secret"]
    again = await call(app, "ask", None, {h("ask"): {"input": sealed(["edited"])}}, target=h("ask"))
    assert opened(again.body[0]["data"]) == "EDITED"
    told = await call(app, "calls")
    data = told.body[0]["opts"]["payload"]["data"]
    assert (data["n"], opened(data["encrypted"])) == (1, "my secret")
    done = await call(app, "calls", None, {h("call"): {"data": sealed("result")}})
    assert opened(done.body) == "result"


async def test_events_with_others_in_them() -> None:
    """The server's own: a failed run's event inside of another, a result; and an invoke by another SDK."""
    app = make_app(middleware=[Encryption(KEY)])

    @app.function("unit/go")
    async def shows(event: dict[str, Any], step: perdure.Step) -> Any:
        assert step.event.data == event
        raise perdure.NonRetriableError(json.dumps(event))

    async def seen(data: Any) -> Any:
        return json.loads((await call(app, "shows", {"data": data})).body["message"])

    assert await seen(
        {"event": {"data": {"n": 1, "encrypted": sealed({"a": 1})}}, "result": sealed([2])}
    ) == {
        "event": {"data": {"n": 1, "encrypted": {"a": 1}}},
        "result": [2],
    }
    assert await seen({**sealed({"a": 1}), "_inngest": {"fn_id": "x"}}) == {
        "a": 1,
        "_inngest": {"fn_id": "x"},
    }
    assert await seen({"plain": [1, {"deep": None}]}) == {"plain": [1, {"deep": None}]}


async def test_keys_change_without_a_gap() -> None:
    old, new = "the old key", "the new key"
    event = {"data": {"order": 7, "encrypted": sealed({"number": "123"}, old)}}
    for keys in ((old,), (old, new), (new, old)):
        told = await call(app_of(*keys), "pay", event)
        assert opened(told.body[0]["data"], keys[0]) == {"number": "321"}
    out = await call(app_of(new, old, decrypt_only=True), "pay", event)
    assert out.body[0]["data"] == {"number": "321"}


def message(told: Told) -> str:
    assert told.status == 500
    assert "x-inngest-no-retry" not in told.headers, "it is tried again: somebody may mend the key"
    return str(told.body["message"])


async def test_a_wrong_key_says_what_to_do() -> None:
    text = message(await call(app_of("another key"), "pay", EVENT))
    assert text.startswith('The data of the event "unit/go" cannot be decrypted with the key')
    assert "Encryption(new, old)" in text
    text = message(await call(app_of("a", "b"), "pay", EVENT))
    assert "with any of the 2 keys" in text
    text = message(await call(app_of(KEY), "pay", EVENT, {h("charge"): {"data": sealed(1, "other")}}))
    assert 'The result of the step "charge" cannot be decrypted' in text


async def test_what_is_no_ciphertext() -> None:
    raw = base64.b64decode(sealed({"number": "1"})["data"])
    for data in ("no base64!", "", "QUJD", base64.b64encode(raw[:-1] + bytes([raw[-1] ^ 1])).decode()):
        event = {"data": {"order": 1, "encrypted": {**sealed(1), "data": data}}}
        text = message(await call(app_of(KEY), "pay", event))
        assert 'The data of the event "unit/go"' in text, data
    event = {"data": {"order": 1, "encrypted": {**sealed(1), "__STRATEGY__": "rot13"}}}
    assert "__STRATEGY__ is 'rot13'" in message(await call(app_of(KEY), "pay", event))


def test_the_official_middleware_reads_it_and_is_read() -> None:
    """Its own methods for one payload each, with an app of the official SDK."""
    official = EncryptionMiddleware(inngest.Inngest(app_id="official"), None, KEY)
    own, payload = Encryption(KEY), Payload("step", "charge")
    for value in ({"a": [1, "é", None]}, "text", [], 0.5, None):
        theirs = official._encrypt(value)
        assert json.loads(bytes(own.transform_input(theirs, payload))) == value
        ours = json.loads(bytes(own.transform_output(value, payload)))
        assert official._decrypt(ours) == value
    sent = own.transform_output({"order": 7, "encrypted": {"n": 1}}, Payload("event", "unit/go"))
    event = json.loads(msgspec.json.encode(sent))
    assert official._decrypt_event_data(event) == {"order": 7, "encrypted": {"n": 1}}


def test_keys_that_are_none() -> None:
    with pytest.raises(perdure.UsageError, match="needs a key"):
        Encryption()
    with pytest.raises(perdure.UsageError, match="environment variable"):
        Encryption("  ")
    with pytest.raises(perdure.UsageError, match="5 bytes"):
        Encryption(b"short")
    Encryption(bytes(32))
