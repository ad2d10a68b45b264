"""Uploads: what is a transcript, and which field is wrong if it is none."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, StringConstraints
from starlette.datastructures import UploadFile

LONGEST_TRANSCRIPT = 1_000_000
LONGEST_NAME = 200
LARGEST_BODY = 5_000_000
"""Bytes of a request: a transcript of four bytes a character, and some more."""


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("it holds a NUL character, so it is not text")
    return value


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_NAME),
    AfterValidator(_text),
]
Transcript = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_TRANSCRIPT),
    AfterValidator(_text),
]


class NewOpportunity(BaseModel):
    """The body of `POST /api/opportunities`."""

    name: Name


class NewCall(BaseModel):
    """The body of `POST /api/calls`. The opportunity is made if there is none of that name."""

    transcript: Transcript
    opportunity: Name = "Demo"
    title: Name | None = None


class FieldError(Exception):
    """A field of a form cannot be taken. The text is for the person who filled it in."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def name_of(field: str, text: str) -> str:
    """A name that somebody typed. Raises FieldError."""
    name = text.strip()
    if not name:
        raise FieldError(field, "Please give a name.")
    if len(name) > LONGEST_NAME:
        raise FieldError(field, f"At most {LONGEST_NAME} characters, please; this has {len(name)}.")
    return name.replace("\0", "")


def address_of(field: str, text: str) -> str:
    """An email address that somebody typed. Raises FieldError. The mail server knows whether it exists."""
    address = text.strip()
    if not re.fullmatch(r"[^@\s,;<>]+@[^@\s,;<>]+", address):
        raise FieldError(field, "Please give one email address, such as somebody@example.com.")
    return address


async def transcript_of(text: str, file: UploadFile | None) -> str:
    """The transcript of a form that has a text or a file. Raises FieldError."""
    typed = text.strip()
    if file is None or not file.filename:
        if not typed:
            raise FieldError("transcript", "Paste a transcript, or choose a file.")
        return _checked("transcript", typed)
    if typed:
        raise FieldError("file", "There is a text and a file. Please leave one of them out.")
    data = await file.read(LARGEST_BODY + 1)
    try:
        read = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig").strip()
    except UnicodeDecodeError:
        raise FieldError(
            "file", f"{file.filename} is not a text file in UTF-8. Save it as plain text and choose it again."
        ) from None
    if not read:
        raise FieldError("file", f"{file.filename} is empty.")
    return _checked("file", read)


def _checked(field: str, text: str) -> str:
    if "\0" in text:
        raise FieldError(field, "This holds a NUL character, so it is not a text.")
    if len(text) > LONGEST_TRANSCRIPT:
        raise FieldError(field, f"At most {LONGEST_TRANSCRIPT:,} characters, please; this has {len(text):,}.")
    return text
