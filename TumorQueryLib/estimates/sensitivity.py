"""Sensitivity: what a refined tumour's figures would be if the tissue were another than the model assumes.

Images do not tell how slowly cells move in grey matter, nor what tissue a tumour has grown over. The same search is
made again, from the refined tumour, under each assumption, and the figures stand side by side. This is no fit: which
assumption agrees best with the outlines does not tell which one is true (docs/refinement.md). The thresholds of core
and whole tumour are never varied: freed, they follow the model's error and double that of the density.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.tissue import GREY_TO_WHITE, Tissue
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.method import DEFAULT_LEVEL
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.estimates.assimilate import distance_from
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.estimates.foci import combined_density, halves
from TumorQueryLib.estimates.moments import best_exact_moment
from TumorQueryLib.estimates.search import ENDS, Search
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.growth import GrowthParameters, simulate

SENSITIVITY_SOLVES = 60  # of each assumption
#: The search starts at these shares of the refined length: where cells move faster, a shorter one fits.
START_LENGTHS = (1.0, 0.7, 0.45)
TUMOUR_MARGIN = 1.5  # the patient's mm around the whole tumour that is taken as white matter with it


@dataclass(frozen=True)
class SensitivityRow:
    """A tumour refined again under an assumption about its tissue.

    Parameters
    ----------
    assumption : str
        In words that go on from "with".
    infiltration_lengths_mm : tuple of float
        sqrt(D/rho) of each focus in the patient's millimetres.
    rho_t : tuple of float
        Of each focus.
    core_ml, whole_ml, above_level_ml : float
        Volumes in the patient of what the density calls core and whole tumour, and above `level`.
    level : float
    dice_sum : float
        Of core and whole tumour on the T1Gd image's grid, in [0, 2].
    stopped : {"converged", "budget", "time"}
        Why the search ended; of two, the one whose end says less of the figures.
    """

    assumption: str
    infiltration_lengths_mm: tuple[float, ...]
    rho_t: tuple[float, ...]
    core_ml: float
    whole_ml: float
    above_level_ml: float
    level: float
    dice_sum: float
    stopped: str = "converged"

    @property
    def sentence(self) -> str:
        """The assumption and its figures, for a line that begins with "With"."""
        lengths = " and ".join(f"{length:.2f}" for length in self.infiltration_lengths_mm)
        ages = " and ".join(f"{age:.1f}" for age in self.rho_t)
        return (
            f"{self.assumption}: infiltration length {lengths} mm, rho T {ages}, {self.above_level_ml:.0f} ml above "
            f"{self.level:g}, Dice sum {self.dice_sum:.3f}"
        )

    def as_json(self) -> dict[str, Any]:
        """As result.json holds it."""
        return {
            "assumption": self.assumption,
            "infiltration_length_patient_mm": list(self.infiltration_lengths_mm),
            "rho_t": list(self.rho_t),
            "volumes_ml": {"core": self.core_ml, "whole": self.whole_ml, "above_level": self.above_level_ml},
            "level": self.level,
            "dice_sum": self.dice_sum,
            "stopped": self.stopped,
        }


def sensitivity(
    estimate: Estimate,
    observed: TumorMasks,
    target: TumorMasks,
    thresholds: tuple[float, float],
    *,
    level: float = DEFAULT_LEVEL,
    solves: int = SENSITIVITY_SOLVES,
    seconds: float | None = None,
    progress: Progress = no_progress,
) -> tuple[SensitivityRow, ...]:
    """Refine a tumour again under other assumptions about the tissue; the same budget of solves gives the same rows.

    Parameters
    ----------
    estimate : Estimate
        The refined one, in the patient's anatomy or the atlas's.
    observed : TumorMasks
        The patient's regions on the T1Gd image's grid.
    target : TumorMasks
        The same on the grid of the estimate's anatomy.
    thresholds : tuple of float
        Of core and whole tumour.
    level : float
        Density above which a volume is given too.
    solves : int
        Budget of each assumption.
    seconds : float, optional
        Wall seconds after which all searches have ended with the best so far; each gets its share of what is left.
    progress : Progress

    Returns
    -------
    tuple of SensitivityRow
        Grey matter ten times slower than white matter (the model's own assumption), three times slower, and the whole
        tumour as white matter; each refined with the same budget.

    Raises
    ------
    InputError
        When the estimate has no parameters to start from, or its anatomy does not know the maps it was made of.
    """
    if not estimate.parameters or estimate.anatomy.maps is None:
        raise InputError(
            "Sensitivity starts from a refined tumour in an anatomy of tissue maps; refine the match first."
        )
    tissues = assumed_tissues(estimate.anatomy, target)
    end = math.inf if seconds is None else time.monotonic() + seconds
    rows = []
    for number, (assumption, tissue) in enumerate(tissues.items()):
        step = part(progress, number / len(tissues), (number + 1) / len(tissues))
        deadline = _share_of_time(end, len(tissues) - number)
        again, stopped = _refined_again(estimate, tissue, observed, target, thresholds, solves, deadline, step)
        voxel = again.in_patient.grid.voxel_volume_ml
        rows.append(
            SensitivityRow(
                assumption=assumption,
                infiltration_lengths_mm=again.infiltration_lengths_mm,
                rho_t=tuple(parameters.rho_t for parameters in again.parameters),
                core_ml=again.fit.predicted_ml[0],
                whole_ml=again.fit.predicted_ml[1],
                above_level_ml=float(np.count_nonzero(again.in_patient.array > level) * voxel),
                level=level,
                dice_sum=again.fit.dice_sum,
                stopped=stopped,
            )
        )
    return tuple(rows)


def _share_of_time(end: float, searches: int) -> float:
    """The end of the next of some searches that share the time until `end` (both by `time.monotonic`)."""
    now = time.monotonic()
    return now + max(0.0, end - now) / searches


def assumed_tissues(anatomy: Anatomy, target: TumorMasks) -> Mapping[str, Tissue]:
    """The tissue under each assumption, by the assumption in words; the model's own first.

    Parameters
    ----------
    anatomy : Anatomy
        With the maps that it was made of.
    target : TumorMasks
        The patient's regions on its grid.
    """
    maps = anatomy.maps
    if maps is None:
        raise ValueError("The anatomy does not know the maps that it was made of.")
    near = distance_from(target.whole, anatomy) <= TUMOUR_MARGIN
    return {
        "grey matter 10 times slower": maps.tissue(GREY_TO_WHITE),
        "grey matter 3 times slower": maps.tissue(1 / 3),
        "white matter in the tumour": maps.with_white_matter_in(near).tissue(),
    }


def _refined_again(
    estimate: Estimate,
    tissue: Tissue,
    observed: TumorMasks,
    target: TumorMasks,
    thresholds: tuple[float, float],
    solves: int,
    deadline: float,
    progress: Progress,
) -> tuple[Estimate, str]:
    """The estimate after a search from its parameters in another tissue, and why the search ended.

    Each focus is searched in its half, as it was found.
    """
    before = estimate.parameters
    sides = (target,) if len(before) == 1 else halves(target, 0.0)
    if sides is None or len(sides) != len(before):
        raise InputError(f"The tumour has {len(before)} foci and its core is not of as many components.")
    found, ends = [], []
    for number, (start, side) in enumerate(zip(before, sides)):
        step = part(progress, number / len(before), (number + 1) / len(before))
        search = Search(tissue, side, thresholds, _share_of_time(deadline, len(before) - number), 0, progress=step)
        starts = [(start.seed, share * start.infiltration_length) for share in START_LENGTHS]
        best = search.run(starts, max(1, solves // len(before)))
        ends.append(search.stopped)
        rho_t = best_exact_moment(best.seed, best.infiltration_length, best.rho_t, tissue, side, thresholds)
        found.append(
            GrowthParameters.from_identifiable(best.seed, best.infiltration_length, rho_t, start.proliferation)
        )
    densities = [simulate(parameters, tissue) for parameters in found]
    density = densities[0] if len(densities) == 1 else combined_density(densities)
    place = estimate.anatomy
    anatomy = Anatomy(place.name, tissue, place.space, place.length_scale)
    again = Estimate.of(
        estimate.name, anatomy, tuple(found), Volume(density, tissue.grid), observed, target, thresholds
    )
    return again, next(end for end in ENDS if end in ends)
