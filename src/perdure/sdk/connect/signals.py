"""Which signals stop a worker, without taking them from a program that has a handler of its own."""

from __future__ import annotations

import asyncio
import functools
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

USUAL = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping_on(signals: Sequence[signal.Signals] | None, stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the loop when one of the signals comes; None stands for SIGINT and SIGTERM where they are free.

    Outside of the main thread, where Python takes no signals, none is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    chosen = [one for one in USUAL if _is_free(one)] if signals is None else list(signals)
    before = {one: signal.getsignal(one) for one in chosen}
    for one in chosen:
        try:
            loop.add_signal_handler(one, stop)
        except NotImplementedError:  # Windows
            signal.signal(one, lambda _number, _frame: loop.call_soon_threadsafe(stop))
    try:
        yield
    finally:
        for one, handler in before.items():
            with suppress(NotImplementedError):
                loop.remove_signal_handler(one)
            signal.signal(one, handler)


def _is_free(one: signal.Signals) -> bool:
    """Whether nobody but Python itself, or asyncio.run, handles the signal."""
    handler = signal.getsignal(one)
    if handler in {signal.SIG_DFL, signal.default_int_handler}:
        return True
    return isinstance(handler, functools.partial) and isinstance(
        getattr(handler.func, "__self__", None), asyncio.Runner
    )
