"""The examples of docs/flow-control.md are what the SDKs take, say the same in both languages, and are registered."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import inngest
import msgspec
import pytest

from perdure.core.cron import check_cron
from perdure.core.expressions import compile_expression
from perdure.protocol.function_rules import load_function, read_function
from perdure.protocol.functions import FunctionConfig
from perdure.protocol.overrides import override_config
from perdure.protocol.registration import RegistrationError, read_registration
from tests.sdk.driver import HERE

PAGE = (HERE.parents[1] / "docs" / "flow-control.md").read_text()
URL = "http://localhost:3000/api/inngest"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def compiles(text: str) -> None:
    compile_expression(text)


def read(config: dict[str, Any]) -> FunctionConfig:
    function, problems = read_function(json.dumps(config).encode(), compiles, check_cron)
    assert problems == []
    return function


def of_python(example: str) -> FunctionConfig:
    client = inngest.Inngest(app_id="shop", is_production=False)
    names: dict[str, Any] = {"client": client, "inngest": inngest, "timedelta": timedelta}
    exec(f"{example}\nasync def handler(ctx): ...\nfunction = handler", names)
    config = names["function"].get_config(URL).main
    return read(config.model_dump(mode="json", by_alias=True, exclude_none=True))


def test_every_rule_is_shown_in_both_languages() -> None:
    assert len(blocks("python")) == len(blocks("js")) == 11


@pytest.mark.parametrize("example", blocks("python"), ids=range(11))
def test_python_examples_are_taken(example: str) -> None:
    assert of_python(example).triggers


@pytest.mark.node
def test_javascript_examples_say_the_same(node_packages: Path) -> None:
    assert node_packages.is_dir()
    node = shutil.which("node")
    assert node is not None
    program = str(HERE / "js" / "examples.mjs")
    done = subprocess.run(
        [node, program],
        input=json.dumps(blocks("js")),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    of_javascript = [read(config) for config in json.loads(done.stdout)]
    for python, javascript in zip(blocks("python"), of_javascript, strict=True):
        same = {"raw": b"{}", "url": ""}
        assert msgspec.structs.replace(of_python(python), **same) == msgspec.structs.replace(
            javascript, **same
        )


def test_refusals_are_told_as_shown() -> None:
    """The page breaks long lines, so only words are compared."""
    step = {"step": {"id": "step", "runtime": {"type": "http", "url": URL}}}
    functions = [
        {"id": "shop-alert", "rateLimit": {"limit": 1, "period": "2d"}, "steps": step},
        {
            "id": "shop-import",
            "concurrency": [{"limit": 10}, {"limit": 2, "key": "event.data.shop id"}],
            "steps": step,
        },
        {"id": "shop-report", "triggers": [{"cron": "0 0 31 2 *"}], "steps": step},
    ]
    body = json.dumps({"appName": "shop", "url": URL, "functions": functions}).encode()
    with pytest.raises(RegistrationError) as caught:
        read_registration(body, check_expression=compiles, check_cron=check_cron)
    told = caught.value.reason.split("\n", 1)[1]
    assert " ".join(told.split()) in " ".join(PAGE.split())


def test_the_overrides_that_are_shown_can_be_set() -> None:
    shown = re.findall(r"/overrides -d '(.*?)'", PAGE)
    assert shown
    function = load_function(json.dumps({"id": "f", "steps": {"step": {"runtime": {"url": URL}}}}).encode())
    for text in shown:
        override_config(function, json.loads(text), compiles)


def test_every_field_that_can_be_set_is_named() -> None:
    from perdure.protocol.overrides import FIELDS

    section = PAGE.split("## Changing limits at run time")[1].split("\n## ")[0]
    assert all(f"`{field}`" in section for field in FIELDS)
