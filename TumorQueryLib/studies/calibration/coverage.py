"""How much of the truth of one tumour lies within its bands and intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.studies.phantom import Phantom

if TYPE_CHECKING:
    from TumorQueryLib.estimates.uncertainty import Uncertainty

CONFIDENCES = (0.5, 0.8, 0.9, 0.95)
#: Voxels count where the truth or the band reaches this density: elsewhere any band would hold.
SMALLEST_DENSITY = 0.01
TOLERANCE = 0.002  # by which the truth may lie outside of a band


def coverage_of(uncertainty: Uncertainty, case: Phantom) -> list[dict[str, Any]]:
    """How much of the truth lies within the bands and intervals of a tumour.

    Parameters
    ----------
    uncertainty : Uncertainty
        On the grid of the true density.
    case : Phantom

    Returns
    -------
    list of dict
        A row for each of `CONFIDENCES`: `confidence`, the figures of `band_coverage`; of the first focus's
        infiltration length (mm in the patient) and rho T `<name>_true`, `<name>_low`, `<name>_high`, `<name>_held`
        and `<name>_half_width` (half of the interval's width as a share of its middle); `residual_rms`; `whole_ml`.
    """
    rows = []
    for confidence in CONFIDENCES:
        lower, upper = uncertainty.band(confidence)
        rows.append(
            {
                "confidence": confidence,
                **band_coverage(lower.array, upper.array, case),
                **_held("length", uncertainty.length_interval(confidence, 0), case.infiltration_length),
                **_held("rho_t", uncertainty.rho_t_interval(confidence, 0), case.parameters.rho_t),
                "residual_rms": float(uncertainty.residual_rms),
                "whole_ml": case.patient.regions_on_t1gd.volumes_ml()[1],
            }
        )
    return rows


def band_coverage(lower: NDArray[np.float32], upper: NDArray[np.float32], case: Phantom) -> dict[str, float | None]:
    """Share of voxels whose true density lies within a band, and the band's mean width.

    Parameters
    ----------
    lower, upper : ndarray
        Densities on the grid of the true one.
    case : Phantom

    Returns
    -------
    dict
        `coverage` and `width` in the brain within 20 mm of the true whole tumour, where the truth or the upper limit
        exceeds `SMALLEST_DENSITY`; the same `_inside` and `_outside` of the true whole tumour (None where there is no
        such voxel); `above` and `below`, the shares where the truth lies above and below the band.
    """
    true = case.density.array
    zone = case.near & ((true > SMALLEST_DENSITY) | (upper > SMALLEST_DENSITY))
    above, below = true > upper + TOLERANCE, true < lower - TOLERANCE
    whole = case.patient.whole.array
    figures: dict[str, float | None] = {}
    for suffix, where in (("", zone), ("_inside", zone & whole), ("_outside", zone & ~whole)):
        any_voxel = bool(where.any())
        figures[f"coverage{suffix}"] = float(1 - (above | below)[where].mean()) if any_voxel else None
        figures[f"width{suffix}"] = float((upper - lower)[where].mean()) if any_voxel else None
    return {**figures, "above": float(above[zone].mean()), "below": float(below[zone].mean())}


def _held(name: str, interval: tuple[float, float], true: float) -> dict[str, Any]:
    low, high = map(float, interval)
    return {
        f"{name}_true": float(true),
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_held": bool(low <= true <= high),
        f"{name}_half_width": (high - low) / (high + low),
    }
