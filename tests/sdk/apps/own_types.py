"""A value of many types that JSON does not have, and functions that pass it on."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from dataclasses import dataclass

import pydantic


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Label:
    text: str
    size: Size


@dataclass
class Parcel:
    id: uuid.UUID
    weight: decimal.Decimal
    sent: datetime.datetime
    due: datetime.date
    content: bytes
    labels: list[Label]
    places: dict[str, tuple[int, int]]


class Receipt(pydantic.BaseModel):
    total: decimal.Decimal
    when: datetime.datetime


SAMPLE = Parcel(
    id=uuid.UUID("12345678-1234-5678-1234-567812345678"),
    weight=decimal.Decimal("12.50"),
    sent=datetime.datetime(2026, 1, 31, 9, 30, tzinfo=datetime.UTC),
    due=datetime.date(2026, 2, 1),
    content=b"\x00\xff not text",
    labels=[Label("fragile", Size.LARGE)],
    places={"from": (1, 2)},
)


def same(parcel: Parcel) -> Parcel:
    """The parcel, which was one before it came here."""
    assert isinstance(parcel.id, uuid.UUID)
    return parcel


def model_of(parcel: Parcel) -> list[Receipt]:
    return [Receipt(total=parcel.weight * 2, when=parcel.sent)]
