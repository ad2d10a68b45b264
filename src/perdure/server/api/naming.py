"""From the names that people use to the ids that are stored."""

from __future__ import annotations

from perdure.server.context import Server


def function_ids(server: Server, slugs: tuple[str, ...], apps: tuple[str, ...]) -> tuple[str, ...] | None:
    """The ids of functions of these slugs and apps, none for all; None if some are named and there is none of them."""
    if not slugs and not apps:
        return ()
    state = server.shard.state
    app_ids = {app.id for app in state.apps.values() if app.name in apps}
    found = tuple(
        function.id
        for function in state.functions.by_id.values()
        if (not slugs or function.slug in slugs) and (not apps or function.app_id in app_ids)
    )
    return found or None
