"""The Opportunity Tracker: a small app for sales calls, whose transcripts are parsed by a background job."""

from __future__ import annotations
