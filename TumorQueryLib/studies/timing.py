"""What is said of the wall times of many calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def milliseconds(seconds: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    """`median_ms`, `p95_ms` and `p99_ms` of wall seconds."""
    median, p95, p99 = np.quantile(np.asarray(seconds) * 1000, [0.5, 0.95, 0.99])
    return {"median_ms": float(median), "p95_ms": float(p95), "p99_ms": float(p99)}
