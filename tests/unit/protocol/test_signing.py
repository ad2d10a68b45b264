from __future__ import annotations

import hashlib
import hmac
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inngest._internal import net, server_lib, transforms

from perdure.protocol.signing import (
    bearer_matches,
    canonicalize,
    hash_signing_key,
    sign,
    valid_signing_key,
    verify,
)

KEY = "signkey-test-deadbeefcafe"
NOW = 1795515123

# Text, canonical form and signature under KEY at NOW, as the JS SDK has them. Made once with Node 20.20.2 from
# inngest 4.24.0: canonicalize(JSON.parse(text)) with the package that it uses (canonicalize 1.0.8, the same as in
# inngest 3.54.2), and signDataWithKey(JSON.parse(text), KEY, "1795515123") of its helpers/net.js.
JS = [
    (
        '{"b":1,"a":{"d":[3,2,{"z":null,"y":true}],"c":"x"}}',
        '{"a":{"c":"x","d":[3,2,{"y":true,"z":null}]},"b":1}',
        "01bcb04b776968cd4230dce8e000c157e69d3b5536ec0b0b24e16c2644482402",
    ),
    (
        '{"a":1.0,"b":-0.0,"c":-0,"d":1e2,"e":1.50}',
        '{"a":1,"b":0,"c":0,"d":100,"e":1.5}',
        "c81ce7630f6fe4713a5b2f0b9a6fd5fd24b6d7ac8de179afa7fd3f176f1d8c39",
    ),
    (
        '{"a":1152921504606846976,"b":9007199254740993,"c":-9007199254740993,"d":123456789012345678901234}',
        '{"a":1152921504606847000,"b":9007199254740992,"c":-9007199254740992,"d":1.2345678901234569e+23}',
        "21b669bc1d4fd54b4171920c7fb43783f384c8f7fc9d3ee8d10025b877f655ee",
    ),
    (
        '{"a":1e21,"b":1e20,"c":123456789012345680000.0,"d":1.7976931348623157e308,"e":5e-324}',
        '{"a":1e+21,"b":100000000000000000000,"c":123456789012345680000,"d":1.7976931348623157e+308,"e":5e-324}',
        "c01e79b02ae9aada16fdaa209b75971fab9923dd09de605a6ab414a634e6a456",
    ),
    (
        '{"a":0.000001,"b":1e-7,"c":0.00001234,"d":1.5e-9,"e":0.1,"f":-1e-7}',
        '{"a":0.000001,"b":1e-7,"c":0.00001234,"d":1.5e-9,"e":0.1,"f":-1e-7}',
        "727a660475920218eb31955618c72f7b24d9674d1a81e05ebf69844251ceedb7",
    ),
    (
        '{"a":1e400,"b":-1e400}',
        '{"a":null,"b":null}',
        "9e8b9bb1dcca07dad7882dce628d69ecf7a6a97a8dd9d7138ddd86e7e1557175",
    ),
    (
        '{"a":"\u2028\u2029","b":"\u20ac\U0001f600","c":"\x7f"}',
        '{"a":"\u2028\u2029","b":"\u20ac\U0001f600","c":"\x7f"}',
        "33262952620d9b35f5d68d7f641d15e1a66e0f93681a547064c687a44a9c8ef7",
    ),
    (
        '{"a":"\\u0000\\u001f\\b\\t\\n\\f\\r\\"\\\\\\/","b":"\\u00e9\\u2028"}',
        '{"a":"\\u0000\\u001f\\b\\t\\n\\f\\r\\"\\\\/","b":"\xe9\u2028"}',
        "cb8271cba37a5470b9f67174319de0da936811a5dcf731fd2caed170428bca54",
    ),
    (
        '{"a":"\\ud800","b":"x\\udc00y","c":"\\uD83D\\uDE00"}',
        '{"a":"\\ud800","b":"x\\udc00y","c":"\U0001f600"}',
        "a629a37e6a6f4bfc0cadad98c110955998a9b45642b2d1b2e99732aaa5f3660a",
    ),
    (
        '{"\U0001f600":1,"\ufb33":2,"\u20ac":3,"1":4,"\xf6":5,"\\r":6,"\x80":7}',
        '{"\\r":6,"1":4,"\x80":7,"\xf6":5,"\u20ac":3,"\U0001f600":1,"\ufb33":2}',
        "1e618c4b79086c7f0ad3deef14d30e1fce028f444d698ee639cf9fdad4976de9",
    ),
    (
        '{"\uffff":1,"\U00010000":2}',
        '{"\U00010000":2,"\uffff":1}',
        "3e165293e6a171140ea8c8966c11daac7a109320fd750eab670e4363a339a9ff",
    ),
    ('{"a":1,"a":2}', '{"a":2}', "617ff06c23fcaaf25c2ead2c99715b4e3ed0b57cbd4069458ea1055cc8d1ae9b"),
    (
        ' [ 1 , "x" , [ ] , { } , null , false ] ',
        '[1,"x",[],{},null,false]',
        "8abe1ce93828c2a77a890c05142f4041e4ff41a6c311329eaa0d82e4ae76a55b",
    ),
    (
        '{"10":1,"9":2,"__proto__":3}',
        '{"10":1,"9":2,"__proto__":3}',
        "28a122e7588e92745369b07e16d60b093955a0845af689c4ad49ffbe0c03224a",
    ),
]

# The Python SDK cannot canonicalize these, so it refuses whatever signature they carry.
NOT_FOR_PYTHON = ("\\ud800", "1e400")


@pytest.mark.parametrize(("text", "canonical", "signature"), JS)
def test_the_js_sdk_sees_the_same_form_and_signature(text: str, canonical: str, signature: str) -> None:
    assert canonicalize(text.encode()) == canonical.encode()
    assert sign(text.encode(), KEY, NOW) == f"t={NOW}&s={signature}"


@pytest.mark.parametrize(
    "text", [text for text, _, _ in JS if not any(odd in text for odd in NOT_FOR_PYTHON)]
)
def test_the_python_sdk_accepts_our_signatures(text: str) -> None:
    body = text.encode()
    assert canonicalize(body) == transforms.canonicalize(body)
    assert accepted_by_python_sdk(body, sign(body, KEY, NOW), KEY) == KEY
    assert isinstance(
        accepted_by_python_sdk(body, sign(body, KEY, NOW), "signkey-test-deadbeefcaff"), Exception
    )


def accepted_by_python_sdk(body: bytes, header: str, key: str) -> object:
    return net.validate_request_sig(
        body=body,
        headers={server_lib.HeaderKey.SIGNATURE.value: header},
        mode=server_lib.ServerKind.CLOUD,
        signing_key=key,
        signing_key_fallback=None,
    )


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**1000), 2**1000)
texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)


@given(values, st.booleans())
def test_the_python_sdk_sees_the_same_form(value: object, escaped: bool) -> None:
    body = json.dumps(value, ensure_ascii=escaped).encode()
    assert canonicalize(body) == transforms.canonicalize(body)


@given(values)
def test_a_canonical_form_is_its_own(value: object) -> None:
    once = canonicalize(json.dumps(value).encode())
    assert canonicalize(once) == once


@given(numbers)
def test_numbers_keep_their_value_as_doubles(number: float) -> None:
    assert float(canonicalize(json.dumps(number).encode())) == float(number)


def test_half_pairs_do_not_disturb_the_order_of_keys() -> None:
    body = rb'{"\ud800":1,"\ud7ff":2,"\ue000":3,"\ud83d\ude00":4}'
    assert list(json.loads(canonicalize(body)).values()) == [2, 1, 4, 3]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"{} x",
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\n"',
        b"01",
        b"[" * 100_000,
    ],
)
def test_what_is_not_json_has_no_canonical_form_but_is_signed_as_it_is(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        canonicalize(body)
    mac = hmac.new(b"deadbeefcafe", body + str(NOW).encode(), hashlib.sha256).hexdigest()
    assert sign(body, KEY, NOW) == f"t={NOW}&s={mac}"
    assert verify(body, sign(body, KEY, NOW), [KEY], NOW)


def test_nesting_of_500_levels_can_be_signed() -> None:
    body = b"[" * 500 + b"]" * 500
    assert canonicalize(b" " + body) == body
    assert canonicalize(body.replace(b"[]", b"[1e-9]")) == body.replace(b"[]", b"[1e-9]")


@given(st.binary())
def test_any_bytes_can_be_signed(body: bytes) -> None:
    assert verify(body, sign(body, KEY, NOW), [KEY], NOW)
    with suppress(ValueError):
        assert verify(canonicalize(body), sign(body, KEY, NOW), [KEY], NOW)


def test_an_empty_body_is_signed_by_its_time_alone() -> None:
    assert canonicalize(b"") == b""
    mac = hmac.new(b"deadbeefcafe", str(NOW).encode(), hashlib.sha256).hexdigest()
    assert sign(b"", KEY, NOW) == f"t={NOW}&s={mac}"
    assert accepted_by_python_sdk(b"", sign(b"", KEY, NOW), KEY) == KEY


def test_a_prefix_makes_no_difference() -> None:
    assert (
        sign(b"{}", "signkey-prod-deadbeefcafe", NOW)
        == sign(b"{}", "deadbeefcafe", NOW)
        == sign(b"{}", KEY, NOW)
    )
    assert verify(b"{}", sign(b"{}", KEY, NOW), ["deadbeefcafe"], NOW)


def test_the_key_of_a_signature_is_text_not_decoded_hex() -> None:
    assert sign(b"{}", "deadbeefcafe", NOW) != sign(b"{}", "DEADBEEFCAFE", NOW)
    assert hash_signing_key("deadbeefcafe") == hash_signing_key("DEADBEEFCAFE")


def test_answers_are_verified_as_sent_or_in_canonical_form() -> None:
    body = b'{"b": 1.0, "a": []}'
    python_answer = net.sign_response(body, KEY, NOW)
    assert isinstance(python_answer, str)
    assert python_answer != sign(body, KEY, NOW)
    assert verify(body, python_answer, [KEY], NOW)
    assert verify(body, sign(body, KEY, NOW), [KEY], NOW)
    assert not verify(b'{"b": 1.5, "a": []}', python_answer, [KEY], NOW)


def test_one_of_several_keys_is_enough() -> None:
    header = sign(b"{}", KEY, NOW)
    assert verify(b"{}", header, ["signkey-test-00", KEY], NOW)
    assert verify(b"{}", header, [KEY, "signkey-test-00"], NOW)
    assert not verify(b"{}", header, ["signkey-test-00", "signkey-test-11"], NOW)
    assert not verify(b"{}", header, [], NOW)


def test_signatures_grow_old() -> None:
    header = sign(b"{}", KEY, NOW)
    assert verify(b"{}", header, [KEY], NOW + 300)
    assert not verify(b"{}", header, [KEY], NOW + 301)
    assert verify(b"{}", header, [KEY], NOW - 300)
    assert not verify(b"{}", header, [KEY], NOW - 301)
    assert verify(b"{}", header, [KEY], NOW + 301, max_age_s=301)


def test_bad_signature_headers() -> None:
    good = sign(b"{}", KEY, NOW)
    time, mac = good.split("&")
    bad = [
        "",
        "t",
        "t=&s=",
        time,
        mac,
        f"{mac}&{time}",
        f"{good}&x=1",
        good[:-1],
        good + "0",
        good.upper(),
        f"t=1e9&{mac}",
    ]
    bad += [
        f"t={NOW}&s={'g' * 64}",
        f"t={NOW}&s=" + "\u0661" * 64,
        f"t={'9' * 5000}&{mac}",
        f" {good}",
        f"{good}\n",
    ]
    bad += [f"t={NOW + 1}&{mac}"]
    assert verify(b"{}", good, [KEY], NOW)
    assert [header for header in bad if verify(b"{}", header, [KEY], NOW)] == []


@given(st.text())
def test_no_header_makes_verification_raise(header: str) -> None:
    assert not verify(b"{}", header, [KEY, header], NOW)


@pytest.mark.parametrize(
    "key", ["signkey-test-1234abcd", "signkey-prod-1234ABCD", "signkey-my_branch-00", "1234abcd"]
)
def test_keys_are_hashed_as_the_sdk_does(key: str) -> None:
    prefix, secret = ("", key) if "-" not in key else (key[: key.rindex("-") + 1], key[key.rindex("-") + 1 :])
    # The Python SDK gives the hash without prefix, the JS SDK keeps the prefix; both are accepted as bearer tokens.
    assert hash_signing_key(key) == prefix + transforms.hash_signing_key(key)
    assert hash_signing_key(key) == prefix + hashlib.sha256(bytes.fromhex(secret)).hexdigest()
    assert valid_signing_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "signkey-test-",
        "signkey-test-abc",
        "signkey-test-xyz1",
        "not hex",
        "ab cd",
        "signkey--abcd",
        "\u0661\u0661",
        "abcd\n",
        "\ud800",
    ],
)
def test_odd_keys_are_told_and_do_not_crash(key: str) -> None:
    assert not valid_signing_key(key)
    with pytest.raises(ValueError, match="not hex"):
        hash_signing_key(key)
    assert verify(b"{}", sign(b"{}", key, NOW), [key], NOW)
    assert not bearer_matches("something else", [key])
    assert not bearer_matches(hashlib.sha256(b"").hexdigest(), [key])
    secret = key.removeprefix("signkey-test-")
    assert bearer_matches(key, [key]) == bool(secret)


def test_bearer_tokens_plain_or_hashed_with_or_without_prefix() -> None:
    hashed = hashlib.sha256(bytes.fromhex("1234abcd")).hexdigest()
    forms = [
        "signkey-test-1234abcd",
        "1234abcd",
        "signkey-prod-1234abcd",
        hashed,
        f"signkey-test-{hashed}",
        f"signkey-x-{hashed}",
    ]
    for key in ("signkey-test-1234abcd", "1234abcd", "signkey-prod-1234abcd"):
        assert [form for form in forms if not bearer_matches(form, [key])] == []
        assert bearer_matches(hashed, ["signkey-test-00", key])
        assert bearer_matches(hashed, [key, "not hex"])
        assert not bearer_matches(hashed, ["signkey-test-00"])
        assert not bearer_matches(hashed[:-1], [key])
        assert not bearer_matches("", [key])
        assert not bearer_matches("signkey-test-", [key])
    assert not bearer_matches(hashed, [])
    assert not bearer_matches("", ["", "signkey-test-"])


@given(st.text(), st.text())
def test_bearer_tokens_never_raise(token: str, key: str) -> None:
    assert bearer_matches(token, [key]) in (True, False)


def test_key_and_signature_of_a_recorded_exchange() -> None:
    key = "signkey-prod-deadbeefdeadbeefdeadbeefdeadbeef"
    hashed = "fd1679fab79576a8f134ea26bd23797d080dff39bd6297e005dc45c62b71c8f6"
    assert hash_signing_key(key) == f"signkey-prod-{hashed}"
    assert bearer_matches(hashed, [key])
    assert bearer_matches(f"signkey-test-{hashed}", [key])
    signature = "b89320317df621a350f680df025c5166fe2a716f23a1b2c14daf2f3231cbfbc8"
    assert sign(b"", key, 1795515674) == f"t=1795515674&s={signature}"
