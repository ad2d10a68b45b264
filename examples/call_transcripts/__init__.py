"""A small sales app whose background job parses call transcripts."""

from __future__ import annotations
