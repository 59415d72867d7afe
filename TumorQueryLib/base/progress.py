"""How long work reports its progress and learns that it was cancelled."""

from __future__ import annotations

from collections.abc import Callable

#: Called with a fraction in [0, 1] and a message; raises `Cancelled` to stop the work.
Progress = Callable[[float, str], None]


def no_progress(value: float, message: str) -> None:
    """Report nothing."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """A progress that fills the stretch from `start` to `stop` of another one."""

    def report(value: float, message: str) -> None:
        progress(start + (stop - start) * min(max(value, 0.0), 1.0), message)

    return report
