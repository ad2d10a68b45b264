"""Property tests that do not fail because the machine is busy."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

unhurried = settings(deadline=None, suppress_health_check=(HealthCheck.too_slow,))
