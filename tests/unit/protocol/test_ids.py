from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inngest._internal.transforms import hash_step_id as official_hash_step_id

from perdure.protocol.ids import (
    ACCOUNT_ID,
    ENVIRONMENT_ID,
    Seed,
    app_uuid,
    function_uuid,
    hash_step_id,
    is_ulid,
    new_ulid,
    parse_seed,
    seed_ulid,
    ulid_time_ms,
)

millis = st.integers(0, 2**48 - 1)
entropy = st.binary(min_size=10, max_size=10)


@given(millis, entropy)
def test_a_new_ulid_is_one_and_tells_its_time(now_ms: int, random: bytes) -> None:
    ulid = new_ulid(now_ms, random)
    assert is_ulid(ulid)
    assert ulid_time_ms(ulid) == now_ms


def test_ulids_are_crockford_base_32() -> None:
    assert new_ulid(0, bytes(10)) == "0" * 26
    assert new_ulid(2**48 - 1, b"\xff" * 10) == "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
    # From a recorded exchange: the time part of an id that the reference server made of this seed.
    assert new_ulid(1795515123170, bytes(range(10))).startswith("01M86GN1F2")


def test_entropy_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        new_ulid(1, b"123456789")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 25,
        "0" * 27,
        "0" * 25 + "\n",
        "8" + "0" * 25,
        "01m86gn1f2000g40r40m30e20a",
        *(f"0000000000000000000000000{letter}" for letter in "ILOU-é"),
    ],
)
def test_what_is_not_a_ulid(text: str) -> None:
    assert not is_ulid(text)
    with pytest.raises(ValueError, match="not a ULID"):
        ulid_time_ms(text)


def test_a_seed_gives_the_recorded_ids() -> None:
    seed = parse_seed("1795515123170,AAECAwQFBgcICQ==")
    assert seed == Seed(1795515123170, bytes(range(10)))
    assert seed_ulid(seed, 1) == "01M86GN1F2000G40R40M30E20A"
    assert seed_ulid(seed, 2) == "01M86GN1F2000G40R40M30E20B"
    # Recorded from a step of the JS SDK, and from one of the Python SDK.
    js = parse_seed("1795515117453,xApxAn9HzYNo9Q==")
    assert js is not None
    assert seed_ulid(js, 1) == "01M86GMVWDRG5720KZ8Z6R6T7P"
    assert seed_ulid(js, 2) == "01M86GMVWDRG5720KZ8Z6R6T7Q"
    python = parse_seed("1795515117272,D0qpYMNkcLfTWA==")
    assert python is not None
    assert seed_ulid(python, 1) == "01M86GMVPR1X5AJR63CHRBFMTS"


def test_position_zero_leaves_the_entropy_as_it_is() -> None:
    seed = Seed(7, bytes(range(10)))
    assert seed_ulid(seed, 0) == new_ulid(7, bytes(range(10)))


def test_the_counter_of_a_seed_wraps_around() -> None:
    seed = Seed(7, b"abcdef" + b"\xff\xff\xff\xff")
    assert seed_ulid(seed, 1) == new_ulid(7, b"abcdef" + bytes(4))
    assert seed_ulid(seed, 3) == new_ulid(7, b"abcdef" + b"\0\0\0\2")


@given(millis, entropy, st.integers(1, 5000), st.integers(1, 5000))
def test_positions_get_different_ids(now_ms: int, random: bytes, one: int, other: int) -> None:
    seed = Seed(now_ms, random)
    assert (seed_ulid(seed, one) == seed_ulid(seed, other)) == (one == other)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "x",  # this one and the next two are recorded: the reference server ignores them
        "123,abc",
        "abc,AAECAwQFBgcICQ==",
        "1,2,AAECAwQFBgcICQ==",
        "1,AAECAwQFBgcICQ==,",
        "1,AAECAwQFBgcI",
        "1,AAECAwQFBgcICQo=",
        "1,AAECAwQFBgcICQ",
        "1,AAECAwQFBgcICQ==\n",
        "1,AAEC AwQFBgcICQ==",
        "1,-AECAwQFBgcICQ==",
        "1,é",
        "-1,AAECAwQFBgcICQ==",
        "1.5,AAECAwQFBgcICQ==",
        "\u0661,AAECAwQFBgcICQ==",
        f"{2**48},AAECAwQFBgcICQ==",
        f"{'9' * 5000},AAECAwQFBgcICQ==",
    ],
)
def test_bad_seeds_are_ignored(header: str | None) -> None:
    assert parse_seed(header) is None


@given(st.text())
def test_no_header_makes_a_seed_raise(header: str) -> None:
    seed = parse_seed(header)
    if seed is not None:
        assert is_ulid(seed_ulid(seed, 5000))


def test_the_largest_time_of_a_seed_can_be_used() -> None:
    seed = parse_seed(f"{2**48 - 1},AAECAwQFBgcICQ==")
    assert seed is not None
    assert ulid_time_ms(seed_ulid(seed, 1)) == 2**48 - 1


def test_apps_have_the_ids_of_the_reference_server() -> None:
    assert app_uuid("js") == "933e7c8e-95ae-5a90-b94a-fadc0b48bfb3"
    assert app_uuid("spy") == "4073bca0-2ea5-5704-be44-56e8e5db2c09"


def test_function_ids_depend_on_app_and_slug_only() -> None:
    one = function_uuid("shop", "shop-pay")
    assert one == function_uuid("shop", "shop-pay")
    assert (
        len({one, function_uuid("shop", "shop-ship"), function_uuid("shop2", "shop-pay"), app_uuid("shop")})
        == 4
    )
    assert one == str(uuid.UUID(one)) == one.lower()


def test_fixed_ids_are_uuids() -> None:
    assert {str(uuid.UUID(text)) for text in (ACCOUNT_ID, ENVIRONMENT_ID)} == {ACCOUNT_ID, ENVIRONMENT_ID}
    assert ACCOUNT_ID != ENVIRONMENT_ID


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_step_hashes_are_those_of_the_official_sdk(user_id: str) -> None:
    assert hash_step_id(user_id) == official_hash_step_id(user_id)
    assert hash_step_id(user_id, 2) == official_hash_step_id(f"{user_id}:2")


def test_step_hashes_as_recorded() -> None:
    assert hash_step_id("send") == "37ed539c0cef13959abd980bebf30f4922f606e3"
    assert hash_step_id("half a pair \ud800") != hash_step_id("half a pair ")
