"""What of the true tumour lies outside the plans of one patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from TumorQueryLib.base.plan_choices import PlanChoices
from TumorQueryLib.estimates.uncertainty import Uncertainty
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.regions import TumorMasks, dice
from TumorQueryLib.results.plan import Plan, plan

#: Beside the densities that plans follow: the margin, the plan that holds 95 % of the cells with 90 % probability, and
#: the one of the same volume that knows the truth.
STANDARD, PROBABLE, TRUTH = "standard", "probable", "true density"
CHOICES = PlanChoices()


@dataclass(frozen=True, eq=False)
class Planned:
    """What a plan is made of (see `results.plan.Plannable`).

    Parameters
    ----------
    chosen : str
        Name of the density.
    density : Volume
        On the T1Gd image's grid.
    observed : TumorMasks
        The segmentation on that grid.
    tissue : Volume
        See `Anatomy.tissue_in_patient`.
    uncertainty : Uncertainty, optional
        Of the density.
    """

    chosen: str
    density: Volume
    observed: TumorMasks
    tissue: Volume
    uncertainty: Uncertainty | None = None
    cavity: None = None

    @property
    def segmentation(self) -> Volume:
        """1 core, 2 the rest of the whole tumour."""
        return Volume(np.where(self.observed.core, 1, 2 * self.observed.whole).astype(np.uint8), self.observed.grid)

    @property
    def has_draws(self) -> bool:
        """Whether there is an uncertainty to draw from."""
        return self.uncertainty is not None

    def drawn_densities(self, grid: Grid) -> Iterator[Volume]:
        """The joint draws on a grid in the patient's space."""
        return iter(()) if self.uncertainty is None else self.uncertainty.drawn_densities(grid)


def cells_outside(plans: Mapping[str, Planned], true: Volume) -> list[dict[str, Any]]:
    """What of the true tumour the standard plan and the plan of each density leave outside.

    Parameters
    ----------
    plans : mapping of str to Planned
        Of one patient, by the density's name.
    true : Volume
        The true density on the same grid.

    Returns
    -------
    list of dict
        A row for `STANDARD`, one for each density, `PROBABLE` where one of them has an uncertainty, and `TRUTH`:
        `plan`; `volume_ml`; `true_outside`, the share of the true cells outside; `core_outside`, that of the segmented
        core; `dice_to_standard`; `modelled_outside`, the share that the density itself has outside (for `STANDARD` the
        last density), and where it has an uncertainty `modelled_low` and `modelled_high`, its 5 and 95 % bounds.
    """
    of_truth = next(iter(plans.values()))
    planned = {**plans, TRUTH: Planned(TRUTH, true, of_truth.observed, of_truth.tissue)}
    made: dict[str, Plan] = {}
    for name, one in planned.items():
        found = plan(one, CHOICES)
        made[name] = found.model
        if name != TRUTH:
            made[STANDARD] = found.standard
        if found.probable is not None:
            made[PROBABLE] = found.probable
    order = [STANDARD, *plans, *([PROBABLE] if PROBABLE in made else []), TRUTH]
    core, cells = of_truth.observed.core, true.array.sum(dtype=np.float64)
    rows = []
    for name in order:
        mask = made[name].mask.array
        low, high = made[name].cells_outside_band or (None, None)
        rows.append(
            {
                "plan": name,
                "volume_ml": made[name].volume_ml,
                "true_outside": float(max(0.0, 1 - true.array[mask].sum(dtype=np.float64) / cells)),
                "core_outside": float(1 - mask[core].mean()),
                "dice_to_standard": dice(mask, made[STANDARD].mask.array),
                "modelled_outside": made[name].cells_outside,
                "modelled_low": low,
                "modelled_high": high,
            }
        )
    return rows
