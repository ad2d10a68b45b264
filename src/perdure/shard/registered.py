"""From a function's row to the function as it is in force: what its code says, and what a person has set instead."""

from __future__ import annotations

import logging

import msgspec

from perdure.core.expressions import compile_expression
from perdure.core.functions import Function
from perdure.core.settings import Settings
from perdure.protocol.functions import FunctionConfig
from perdure.protocol.overrides import override_config
from perdure.protocol.registration import RegistrationError
from perdure.shard.rows import FunctionRow

log = logging.getLogger("perdure.shard")


def make_function(row: FunctionRow, config: FunctionConfig, settings: Settings) -> Function:
    """The function of a row whose code registered `config`.

    Overrides that do not fit code which has changed since are left out, with a warning.
    """
    if row.overrides is not None:
        try:
            config = overridden(config, row.overrides)
        except RegistrationError as error:
            log.warning("%s runs as its code says: what was set for it does not fit. %s", row.slug, error)
    return Function(row.id, row.app_id, config, settings, row.archived_at is not None)


def overridden(config: FunctionConfig, overrides: bytes) -> FunctionConfig:
    """The configuration with parts (a JSON object) in place of the code's. Raises `RegistrationError`."""
    fields = msgspec.json.decode(overrides, type=dict[str, object])
    return override_config(config, fields, _check)


def _check(text: str) -> None:
    compile_expression(text)
