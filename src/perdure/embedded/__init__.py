"""The engine inside an app's own process: `App.run_embedded`, and the in-process transport that tests use too."""

from __future__ import annotations

from perdure.embedded.transport import InProcessTransport, registration_of

__all__ = ["InProcessTransport", "registration_of"]
