"""What the FastAPI and the Flask app share: a client that speaks to the server under test."""

from __future__ import annotations

import logging
import os

import inngest


def make_client(app_id: str, server: str) -> inngest.Inngest:
    """A client of the server at `server`.

    In production mode if the environment has a signing key; the SDK then signs, verifies and demands keys.
    """
    logging.getLogger("inngest").setLevel(logging.CRITICAL)
    quiet = logging.getLogger(f"app.{app_id}")
    quiet.setLevel(logging.CRITICAL)
    return inngest.Inngest(
        app_id=app_id,
        api_base_url=server,
        event_api_base_url=server,
        is_production="INNGEST_SIGNING_KEY" in os.environ,
        logger=quiet,
    )
