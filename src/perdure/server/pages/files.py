"""The built pages: read once, kept in memory (half a megabyte), compressed once.

`index.html` is the same for every address of a page; the address under which it is shown is written into it, so
that the pages may stand under any path. Files under `assets/` have a hash of their content in their name and
never change.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".woff2": "font/woff2",
    ".png": "image/png",
}
_PACKED = frozenset((".html", ".js", ".css", ".svg", ".json"))
_BASE = b'<base href="/" />'
_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent. `packed` is its gzip form, None where that is not worth it."""

    body: bytes
    packed: bytes | None
    media_type: str


class Pages:
    """The files of the built pages. There are none in a checkout where nobody has built them."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._files: dict[str, File] = {}
        index = folder / "index.html"
        self._index = index.read_bytes() if index.is_file() else None
        known = folder.rglob("*") if self._index is not None else ()
        self._names = {path.relative_to(folder).as_posix() for path in known if path.is_file()}
        self.policy = _policy(self._index or b"")

    @property
    def built(self) -> bool:
        """Whether there are pages."""
        return self._index is not None

    def file(self, name: str) -> File | None:
        """A file by its path below the folder; None if there is none of that name."""
        if name not in self._names:
            return None
        found = self._files.get(name)
        if found is None:
            found = self._files[name] = _file((self._folder / name).read_bytes(), Path(name).suffix)
        return found

    def index(self, root: str) -> File:
        """The page, to be shown under a path (`root`, without a slash at its end)."""
        assert self._index is not None
        body = self._index.replace(_BASE, f'<base href="{root}/" />'.encode(), 1)
        return _file(body, ".html")


def _file(body: bytes, suffix: str) -> File:
    packed = gzip.compress(body, 9, mtime=0) if suffix in _PACKED else None
    return File(body, packed, TYPES.get(suffix, "application/octet-stream"))


def _policy(index: bytes) -> str:
    """Scripts come from this server only, but for the few lines in the page itself, known by their hash."""
    hashes = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in _INLINE.findall(index)]
    scripts = " ".join(["'self'", *(f"'sha256-{one}'" for one in hashes)])
    return (
        f"default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "worker-src 'self'; connect-src 'self'; base-uri 'self'; frame-ancestors 'none'; form-action 'self'"
    )
