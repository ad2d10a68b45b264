"""How a call reaches an app. Transports implement the shard's `Transport` port."""

from __future__ import annotations

from perdure.transports.http import CallHandle, HttpTransport

__all__ = ["CallHandle", "HttpTransport"]
