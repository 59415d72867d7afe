"""What many measured queries come to: shares and means with their intervals."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from TumorQueryLib.base.version import __version__
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.studies.strategies.measure import RERANKED, TOP, Measured, Rank
from TumorQueryLib.studies.strategies.paper import PAPER_DICE_SUM, PAPER_TABLE_1, PAPER_TABLE_2

CONFIDENCE = 0.95
RESAMPLES = 10_000  # of a bootstrap
#: Whole-tumour volumes in ml that part small, medium and large tumours.
VOLUME_BINS = (10.0, 50.0)
TIE_RULE = (
    "Ties go to the lower entry number, in the exact query and in every strategy. In brackets, where it differs: "
    "the figure if every tie were decided in the strategy's favour."
)


def share_with_interval(hits: int, cases: int) -> dict[str, float]:
    """Share of hits in per cent with its 95 % interval by Wilson (1927), which holds for 8 of 8 too.

    Parameters
    ----------
    hits : int
    cases : int
        At least 1.

    Returns
    -------
    dict
        `value`, `low` and `high`, in per cent.
    """
    interval = stats.binomtest(hits, cases).proportion_ci(CONFIDENCE, method="wilson")
    return {"value": 100 * hits / cases, "low": 100 * float(interval.low), "high": 100 * float(interval.high)}


def mean_with_interval(values: ArrayLike) -> dict[str, float | None]:
    """Mean with Student's 95 % interval.

    Of eight of the 1,000 synthetic queries' Dice sums it holds their mean in 92 % of draws, where a bootstrap
    interval (percentile or BCa) does in 87 %.

    Returns
    -------
    dict
        `value`, and `low` and `high`, which are None for a single value.
    """
    values = np.asarray(values, dtype=float)
    mean = float(values.mean())
    if len(values) < 2:
        return {"value": mean, "low": None, "high": None}
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values))
    return {"value": mean, "low": mean - half, "high": mean + half}


def bootstrap_interval(values: NDArray[np.float64], random_seed: int) -> tuple[float, float]:
    """95 % interval of a mean: percentiles of the means of resampled values."""
    random = np.random.default_rng([random_seed, 79])
    # In parts, so that many patients take no gigabytes.
    means = [values[random.integers(0, len(values), (100, len(values)))].mean(axis=1) for _ in range(RESAMPLES // 100)]
    low, high = np.quantile(np.concatenate(means), ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)


def summarise(
    measured: Mapping[str, Sequence[Measured]],
    database: TumorDatabase,
    *,
    left_out: Mapping[str, str],
    random_seed: int,
) -> dict[str, Any]:
    """The content of results.json.

    Parameters
    ----------
    measured : dict of str to sequence of Measured
        Of "real" and "synthetic" queries; either may be empty.
    database : TumorDatabase
    left_out : dict of str to str
        Patients who could not be used, and why.
    random_seed : int
        Of the synthetic queries.
    """
    kinds: dict[str, Any] = {}
    for kind, cases in measured.items():
        if not cases:
            continue
        kinds[kind] = {
            "cases": len(cases),
            "best_dice_sum": mean_with_interval([case.best.dice_sum for case in cases]),
            "best_dice_core": float(np.mean([case.best.dice_core for case in cases])),
            "best_dice_whole": float(np.mean([case.best.dice_whole for case in cases])),
            "paper_best_dice_sum": PAPER_DICE_SUM[kind],
            "by_volume_ml": by_volume(cases),
            "strategies": {name: _summarise_strategy([case.ranks[name] for case in cases]) for name in cases[0].ranks},
        }
    return {
        "software": {"name": "TumorQuery", "version": __version__, "python": platform.python_version()},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "database": {
            "entries": len(database),
            "sha256": database.sha256,
            "atlas": database.atlas_name,
            "sampling": database.attributes["prior"]["name"],
            "entries_without_core": int(np.count_nonzero(database.core.volume == 0)),
        },
        "synthetic_seed": random_seed,
        "tie_rule": TIE_RULE,
        "failed_patients": dict(left_out),
        **kinds,
        "paper": {
            "table_1": {name: list(values) for name, values in PAPER_TABLE_1.items()},
            "table_2_synthetic": {name: list(values) for name, values in PAPER_TABLE_2.items()},
        },
    }


def _summarise_strategy(ranks: Sequence[Rank]) -> dict[str, Any]:
    beyond = RERANKED + 1
    rank = np.array([beyond if r.rank is None else r.rank for r in ranks])
    in_favour = np.array([beyond if r.rank_in_favour is None else r.rank_in_favour for r in ranks])
    seconds = np.array([r.seconds for r in ranks])
    # The first query of a strategy also loads and compiles.
    settled = seconds[1:] if len(seconds) > 1 else seconds
    summary: dict[str, Any] = {}
    for top in (*TOP, RERANKED):
        summary[f"top{top}"] = share_with_interval(int((rank <= top).sum()), len(rank))
        summary[f"top{top}_ties_in_favour"] = 100 * float((in_favour <= top).mean())
    summary["seconds"] = {"median": float(np.median(settled)), "p95": float(np.quantile(settled, 0.95))}
    return summary


def by_volume(cases: Sequence[Measured]) -> list[dict[str, float | None]]:
    """Number of cases and mean of the best Dice sums in each of `VOLUME_BINS` (ml; `to` None: no upper end)."""
    bins: list[dict[str, float | None]] = []
    for low, high in zip((0.0, *VOLUME_BINS), (*VOLUME_BINS, np.inf)):
        sums = [case.best.dice_sum for case in cases if low <= case.whole_ml < high]
        if sums:
            limit = high if np.isfinite(high) else None
            bins.append({"from": low, "to": limit, "cases": len(sums), "best_dice_sum": float(np.mean(sums))})
    return bins
