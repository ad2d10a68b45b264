"""Perdure: durable background work for ordinary web apps."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__"]
