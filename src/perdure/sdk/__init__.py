"""What authors of apps import. The public names are those of `perdure` itself."""

from __future__ import annotations
