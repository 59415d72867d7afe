"""The best moment of a trajectory: every one of them is scored, so the age rho T costs nothing."""

from __future__ import annotations

from threading import Event

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.compiled import njit
from TumorQueryLib.estimates.fit import Fit
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.regions import TumorMasks, dice_from_counts
from TumorQueryLib.growth import grow_trajectory
from TumorQueryLib.growth.solver import time_step

STOP_VOLUME = 1.6  # a solve ends when the whole tumour is so many times as large as the observed one
MOMENTS_PER_STEP = 8  # between two step ends cells pass a threshold at a time interpolated in log-odds


def best_moment(
    seed: tuple[float, float, float],
    infiltration_length: float,
    tissue: Tissue,
    target: TumorMasks,
    thresholds: tuple[float, float],
    halt: Event | None = None,
) -> tuple[float, float]:
    """Highest Dice sum over all moments of a trajectory, and its rho T.

    Between two step ends each cell passes a threshold where its log-odds, interpolated linearly, do: a front moves
    at a constant speed with u / (1 - u) nearly exponential ahead of it.

    Parameters
    ----------
    seed : tuple of float
        RAS mm, in tissue.
    infiltration_length : float
        mm.
    tissue : Tissue
    target : TumorMasks
        On the tissue's grid.
    thresholds : tuple of float
        Of core and whole tumour.
    halt : threading.Event, optional
        Once set, the trajectory ends where it is.
    """
    observed_core = int(np.count_nonzero(target.core))
    observed_whole = int(np.count_nonzero(target.whole))
    moments = grow_trajectory(
        seed,
        infiltration_length,
        tissue,
        every_step=True,
        threshold=thresholds[1],
        stop_volume_ml=STOP_VOLUME * observed_whole * tissue.grid.voxel_volume_ml,
    )
    before = np.zeros(tissue.grid.shape, np.float32)
    limits = np.array(thresholds, np.float32)
    changes: list[NDArray[np.int64]] = []
    times: list[float] = []
    for moment in moments:
        if halt is not None and halt.is_set():
            break
        counts = np.zeros((MOMENTS_PER_STEP, 2, 2), np.int64)
        i, j, k = moment.start
        _count_crossings(moment.density, before, target.core, target.whole, limits, i, j, k, counts)
        previous = times[-1] if times else moment.rho_t
        step = moment.rho_t - previous
        times += [previous + step * (n + 1) / MOMENTS_PER_STEP for n in range(MOMENTS_PER_STEP)]
        changes.append(counts)
    if not changes:
        return 0.0, 0.0
    totals = np.concatenate(changes).cumsum(axis=0)
    scores = dice_from_counts(totals[:, 0, 1], totals[:, 0, 0], observed_core) + dice_from_counts(
        totals[:, 1, 1], totals[:, 1, 0], observed_whole
    )
    best = int(scores.argmax())
    return float(scores[best]), times[best]


def best_exact_moment(
    seed: tuple[float, float, float],
    infiltration_length: float,
    near: float,
    tissue: Tissue,
    target: TumorMasks,
    thresholds: tuple[float, float],
) -> float:
    """The rho T of highest Dice sum among exactly solved moments around an interpolated one.

    Parameters
    ----------
    seed, infiltration_length, tissue, target, thresholds
        See `best_moment`.
    near : float
        rho T of the interpolated moment.
    """
    if near <= 0:
        return 1e-3
    part = time_step(infiltration_length, tissue.grid.spacing) / MOMENTS_PER_STEP
    times = [t for n in range(-2, 3) if (t := near + n * part) > 0]
    scores = [
        Fit.of(Volume(moment.on_grid(tissue.grid.shape), tissue.grid), target, thresholds).dice_sum
        for moment in grow_trajectory(seed, infiltration_length, tissue, rho_t=times)
    ]
    return times[int(np.argmax(scores))]


@njit(cache=True, nogil=True)
def _count_crossings(density, before, core, whole, thresholds, start_i, start_j, start_k, counts):
    """Count the cells that pass each threshold, by the part of the step in which they do; update `before`.

    counts[part, region, 0] of all cells, counts[part, region, 1] of the cells in the observed region.
    """
    parts = counts.shape[0]
    ni, nj, nk = density.shape
    tiny = np.float32(1e-7)
    for i in range(ni):
        for j in range(nj):
            now_row = density[i, j]
            old_row = before[start_i + i, start_j + j]
            for k in range(nk):
                now = now_row[k]
                old = old_row[start_k + k]
                old_row[start_k + k] = now
                for region in range(2):
                    threshold = thresholds[region]
                    if (now > threshold) == (old > threshold):
                        continue
                    low = min(max(old, tiny), 1 - tiny)
                    high = min(max(now, tiny), 1 - tiny)
                    a = np.log(low / (1 - low))
                    b = np.log(high / (1 - high))
                    c = np.log(threshold / (1 - threshold))
                    share = (c - a) / (b - a) if b != a else np.float32(1)
                    part = min(max(int(np.ceil(share * parts)) - 1, 0), parts - 1)
                    change = 1 if now > threshold else -1
                    counts[part, region, 0] += change
                    observed = core if region == 0 else whole
                    if observed[start_i + i, start_j + j, start_k + k]:
                        counts[part, region, 1] += change
