"""Values as JSON and back, by the types that authors wrote.

JSON has no dates, decimals, UUIDs, bytes or classes. They are written as texts and objects, and come back as
what the annotation says: that of the step's function, of the event, of the invoked function. Without an
annotation a value comes back as plain JSON, in the call that made it as well as in every later one.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from perdure.protocol.payloads import without_lone_surrogates
from perdure.sdk.errors import SerializationError
from perdure.sdk.places import at, defined_at, place

Decode = Callable[[bytes], Any]

_PLAIN = msgspec.json.Decoder()
_UNTYPED = (Any, object, None, type(None), typing.NoReturn)


def encode(value: object, what: str, code: Callable[..., Any] | None = None) -> bytes:
    """A value as JSON. Raises SerializationError that names `what`, where, and the part which is no JSON.

    Where is the author's line that this is done for; or where `code`, whose result it is, is written.
    """
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        return _with_lone_surrogates(value, what, code)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise SerializationError(_complaint(value, what, code, error)) from None


def plain(raw: bytes) -> Any:
    """JSON as plain Python values."""
    try:
        return _PLAIN.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        import json

        return json.loads(without_lone_surrogates(raw))


def decoder(annotation: Any) -> Decode:
    """The function that turns JSON into what an annotation says.

    A type that nothing can be built of by JSON gives the plain value.
    """
    try:
        return _cached(annotation)
    except TypeError:  # not hashable
        return _make(annotation)


def returns(function: Callable[..., Any]) -> Decode:
    """The decoder for what a function returns, by its annotation."""
    target: Any = function
    while isinstance(target, functools.partial):
        target = target.func
    target = getattr(target, "__func__", target)
    if not isinstance(target, types.FunctionType):
        if isinstance(target, type):
            return decoder(target)
        call = type(target).__call__ if callable(target) else None
        if not isinstance(call, types.FunctionType):
            return plain
        target = call
    annotation = target.__annotations__.get("return")
    if annotation is None:
        return plain
    if not isinstance(annotation, str):
        return decoder(annotation)
    key = target.__code__
    known = _RETURNS.get(key)
    if known is None:
        known = _RETURNS[key] = decoder(resolve(target, annotation))
    return known


def resolve(function: Callable[..., Any], annotation: Any) -> Any:
    """An annotation, evaluated where the function was written; `Any` if it cannot be."""
    if not isinstance(annotation, str):
        return annotation
    inner = getattr(function, "__wrapped__", function)
    cells = dict(zip(inner.__code__.co_freevars, (_cell(c) for c in inner.__closure__ or ()), strict=True))
    try:
        return eval(annotation, inner.__globals__, cells)  # the author's own source text
    except Exception:
        return Any


_RETURNS: dict[types.CodeType, Decode] = {}


def _cell(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _default(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        return dump(mode="json")
    if isinstance(value, str):  # such as Markup
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):  # such as the float64 of NumPy
        return float.__float__(value)
    raise TypeError(f"{type(value).__qualname__} is no JSON")


_ENCODER = msgspec.json.Encoder(enc_hook=_default)


def _build(wanted: type, value: object) -> object:
    validate = getattr(wanted, "model_validate", None)
    if validate is not None:
        return validate(value)
    raise TypeError(f"nothing makes a {wanted.__qualname__} of JSON")


def _make(annotation: Any) -> Decode:
    if annotation in _UNTYPED:
        return plain
    validator = getattr(annotation, "__pydantic_validator__", None)
    if isinstance(annotation, type) and validator is not None and hasattr(annotation, "model_dump"):
        return _checked(validator.validate_json, annotation)
    if _has_models(annotation, set()) or not _is_supported(annotation):
        return _by_pydantic(annotation)
    typed: msgspec.json.Decoder[Any] = msgspec.json.Decoder(annotation, dec_hook=_build)
    return _checked(typed.decode, annotation)


_cached = functools.lru_cache(maxsize=1024)(_make)


def _is_supported(annotation: Any) -> bool:
    try:
        msgspec.json.Decoder(annotation, dec_hook=_build)
        info = msgspec.inspect.type_info(annotation)
    except Exception:
        return False
    return not isinstance(info, msgspec.inspect.CustomType)


def _has_models(annotation: Any, seen: set[int]) -> bool:
    """Whether a pydantic model is an argument of a generic type, such as `list[Model]`."""
    if id(annotation) in seen:
        return False
    seen.add(id(annotation))
    if hasattr(annotation, "__pydantic_validator__"):
        return True
    return any(_has_models(part, seen) for part in typing.get_args(annotation))


def _by_pydantic(annotation: Any) -> Decode:
    try:
        import pydantic

        adapter = pydantic.TypeAdapter(annotation)
    except Exception:
        return plain
    return _checked(adapter.validate_json, annotation)


def _checked(decode: Decode, annotation: Any) -> Decode:
    def checked(raw: bytes) -> Any:
        try:
            return decode(raw)
        except (msgspec.ValidationError, ValueError) as error:
            name = getattr(annotation, "__qualname__", None) or str(annotation)
            raise SerializationError(
                f"The JSON {_short(raw)} is no {name}: {error}. It was perhaps written by an older version of the "
                "code, or the annotation does not say what is really returned; mend the annotation, or let the type "
                "take both forms."
            ) from error

    return checked


def _with_lone_surrogates(value: object, what: str, code: Callable[..., Any] | None) -> bytes:
    """Half a surrogate pair cannot be UTF-8, but can be JSON, as its escape."""
    import json

    try:
        return json.dumps(msgspec.to_builtins(value, enc_hook=_default, str_keys=True)).encode()
    except (TypeError, ValueError) as error:
        raise SerializationError(_complaint(value, what, code, error)) from None


def _complaint(value: object, what: str, code: Callable[..., Any] | None, error: Exception) -> str:
    where, culprit = _culprit(value, "", 0)
    kind = type(culprit).__qualname__
    hint = {
        "coroutine": "It was not awaited: write `await`, or make the function async.",
        "function": "Call it, and return what it returns.",
        "generator": "Make it a list.",
    }.get(kind, "Return a dict, a list, a dataclass or a pydantic model with what you need later.")
    reason = "" if isinstance(error, TypeError) else f" ({error})"
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    line = at(place() if code is None else defined_at(code))
    return (
        f"{what} cannot be written as JSON{line}: {where or 'the value'} is {article} {kind}{reason}. {hint}"
    )


def _culprit(value: object, path: str, depth: int) -> tuple[str, object]:
    """The innermost part that cannot be encoded, and the way to it."""
    parts: list[tuple[str, object]] = []
    if depth < 20:
        if isinstance(value, dict):
            parts = [(f"{path}[{key!r}]", part) for key, part in value.items()]
        elif isinstance(value, list | tuple):
            parts = [(f"{path}[{number}]", part) for number, part in enumerate(value)]
    for where, part in parts:
        try:
            _ENCODER.encode(part)
        except Exception:
            return _culprit(part, where, depth + 1)
    return path, value


def _short(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return text if len(text) <= 120 else f"{text[:119]}…"
