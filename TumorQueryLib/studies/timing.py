"""Wall times of single calls, and what is said of many of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What a call returns, and the wall seconds that it took."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def milliseconds(seconds: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    """`median_ms`, `p95_ms` and `p99_ms` of wall seconds."""
    median, p95, p99 = np.quantile(np.asarray(seconds) * 1000, [0.5, 0.95, 0.99])
    return {"median_ms": float(median), "p95_ms": float(p95), "p99_ms": float(p99)}
