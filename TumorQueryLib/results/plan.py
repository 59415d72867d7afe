"""What might be irradiated: the margin that a guideline states, and the plan that the density suggests beside it.

Both are masks on the T1Gd image's grid, cut at the brain. A plan is a proposal to compare, not a prescription.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.anatomy.anatomy import CSF, GREY_MATTER, WHITE_MATTER
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.plan_choices import GUIDELINES, SAME_VOLUME, Guideline, PlanChoices
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.geometry.grid import Grid, Volume, resample_mask
from TumorQueryLib.geometry.regions import bounding_box, dice, distance_from
from TumorQueryLib.results.plan_masks import densest_of, margin_plan, outline_distances, ranked, without_small_parts

TISSUES = {"white_matter_ml": WHITE_MATTER, "grey_matter_ml": GREY_MATTER, "csf_ml": CSF}
#: mm; cells of the joint draws are counted at voxels this far apart, on finer grids.
DRAW_SPACING = 2.0
#: Share of core and cavity that the model's plan may leave out without a warning.
CORE_LEFT_OUT = 0.01


class Plannable(Protocol):
    """What a plan is made of: a `Result` has it, a `SavedResult`, and whatever else knows a patient's density."""

    @property
    def chosen(self) -> str:
        """Name of the estimate that the density is of."""

    @property
    def density(self) -> Volume:
        """On the T1Gd image's grid, as all that follows."""

    @property
    def segmentation(self) -> Volume:
        """uint8: 1 core, 2 the rest of the whole tumour."""

    @property
    def tissue(self) -> Volume:
        """uint8, see `Anatomy.tissue_in_patient`."""

    @property
    def cavity(self) -> Volume | None:
        """The resection cavity, boolean."""

    @property
    def has_draws(self) -> bool:
        """Whether there are joint draws of the density."""

    def drawn_densities(self, grid: Grid) -> Iterator[Volume]:
        """The joint draws at the voxels of a grid in the patient's space."""


@dataclass(frozen=True, eq=False)
class Plan:
    """One proposed volume.

    Parameters
    ----------
    mask : Volume
        Boolean, on the T1Gd image's grid.
    tissues_ml : dict of str to float
        How much white matter, grey matter and CSF it holds.
    cells_outside : float
        Share of the modelled tumour cells that lie outside it.
    cells_outside_band : tuple of float, optional
        5 and 95 % bound of that share over the joint draws of the density; it holds the share itself.
    """

    mask: Volume
    tissues_ml: dict[str, float]
    cells_outside: float
    cells_outside_band: tuple[float, float] | None = None

    @property
    def volume_ml(self) -> float:
        """Its volume in millilitres."""
        return float(np.count_nonzero(self.mask.array) * self.mask.grid.voxel_volume_ml)

    def as_json(self) -> dict[str, Any]:
        """Its figures; the mask is a file of its own."""
        band = self.cells_outside_band
        return {
            "volume_ml": round(self.volume_ml, 3),
            **{name: round(volume, 3) for name, volume in self.tissues_ml.items()},
            "cells_outside": round(self.cells_outside, 6),
            "cells_outside_p05_p95": None if band is None else [round(share, 6) for share in band],
        }


@dataclass(frozen=True, eq=False)
class PlanComparison:
    """How the model's plan differs from the standard one.

    Parameters
    ----------
    overlap_ml, dice : float
    spared_ml, added_ml : dict of str to float
        What the standard plan holds and the model's does not, and the reverse, by tissue.
    outline_distance_mm : dict of str to float, optional
        `mean`, `p95` and `max` of the distances between the outlines, both ways; None where one plan is empty.
    """

    overlap_ml: float
    dice: float
    spared_ml: dict[str, float]
    added_ml: dict[str, float]
    outline_distance_mm: dict[str, float] | None

    def as_json(self) -> dict[str, Any]:
        """All figures, JSON-ready."""
        distance = self.outline_distance_mm
        return {
            "overlap_ml": round(self.overlap_ml, 3),
            "dice": round(self.dice, 4),
            "spared": {name: round(volume, 3) for name, volume in self.spared_ml.items()},
            "added": {name: round(volume, 3) for name, volume in self.added_ml.items()},
            "outline_distance_mm": None if distance is None else {name: round(mm, 2) for name, mm in distance.items()},
        }


@dataclass(frozen=True, eq=False)
class Plans:
    """The plans of a result, side by side.

    Parameters
    ----------
    choices : PlanChoices
    estimate : str
        Name of the estimate whose density the model's plan follows.
    standard, model : Plan
    probable : Plan, optional
        The smallest plan that holds `choices.share` of the cells with `choices.probability`; None where the
        uncertainty of the density is not known.
    lowest_density : float
        The lowest density in the model's plan.
    comparison : PlanComparison
        Of the model's plan with the standard one.
    guidelines : dict of str to Plan
        What each guideline asks for, by its name.
    cavity_ml : float
        Of the resection cavity that was counted with the core.
    warnings : tuple of str
    """

    choices: PlanChoices
    estimate: str
    standard: Plan
    model: Plan
    probable: Plan | None
    lowest_density: float
    comparison: PlanComparison
    guidelines: dict[str, Plan]
    cavity_ml: float
    warnings: tuple[str, ...] = field(default=())

    @property
    def masks(self) -> dict[str, Volume]:
        """The masks by name: standard, model, and probable where there is one."""
        plans = {"standard": self.standard, "model": self.model, "probable": self.probable}
        return {name: plan.mask for name, plan in plans.items() if plan is not None}

    def as_json(self) -> dict[str, Any]:
        """The content of plan.json."""
        return {
            "choices": self.choices.as_json(),
            "estimate": self.estimate,
            "standard": {"title": standard_title(self.choices), **self.standard.as_json()},
            "model": {"lowest_density": round(self.lowest_density, 6), **self.model.as_json()},
            "probable": None if self.probable is None else self.probable.as_json(),
            "comparison": self.comparison.as_json(),
            "guidelines": [
                {"name": name, "title": GUIDELINES[name].title, "source": GUIDELINES[name].source, **plan.as_json()}
                for name, plan in self.guidelines.items()
            ],
            "cavity_ml": round(self.cavity_ml, 3),
            "sentences": self.sentences(),
            "warnings": list(self.warnings),
        }

    def sentences(self) -> list[str]:
        """The comparison in words."""
        standard, model, choices = self.standard, self.model, self.choices
        said = [
            f"The standard plan ({standard_title(choices)}) has {standard.volume_ml:.0f} ml and leaves "
            f"{_percent(standard)} of the modelled cells outside; the model's plan has {model.volume_ml:.0f} ml, all "
            f"that is denser than {self.lowest_density:.2g}, and leaves {_percent(model)}.",
            f"The model's plan spares {_listed(self.comparison.spared_ml)} of the standard one, and adds "
            f"{_listed(self.comparison.added_ml)}.",
        ]
        distance = self.comparison.outline_distance_mm
        if distance is not None:
            said.append(
                f"Their outlines lie {distance['mean']:.1f} mm apart on average, {distance['max']:.0f} mm at most."
            )
        if self.probable is not None:
            said.append(
                f"The smallest plan that holds {100 * choices.share:g} % of the cells with a probability of "
                f"{100 * choices.probability:g} % has {self.probable.volume_ml:.0f} ml."
            )
        said.append("Whether the modelled cells are the patient's no image shows: a plan is a proposal to compare.")
        return said


def plan(
    result: Plannable,
    choices: PlanChoices | None = None,
    *,
    cavity: Volume | None = None,
    progress: Progress = no_progress,
) -> Plans:
    """Make the standard plan and the model's of a result.

    Parameters
    ----------
    result : Result or SavedResult
    choices : PlanChoices, optional
        By default 15 mm around the core (ESTRO-EANO 2023), and the model's plan of the same volume.
    cavity : Volume, optional
        Resection cavity, boolean, in the patient's space on any grid; counted with the core. By default the result's.
    progress : Progress

    Returns
    -------
    Plans
        Distances are between voxel centres on the T1Gd image's own grid, as the field counts them.

    Raises
    ------
    InputError
        When there is no core to put a margin around, or the model's plan cannot have the volume that was asked for.
    """
    choices = PlanChoices() if choices is None else choices
    progress(0.0, "Planning")
    site = _Site.of(result, choices, result.cavity if cavity is None else cavity)
    standard = site.standard(choices.guideline or _core_guideline(choices.margin))
    guidelines = {name: site.standard(guideline) for name, guideline in GUIDELINES.items()}
    progress(0.4, "Planning")
    model, lowest = site.model_plan(choices, int(np.count_nonzero(standard)))
    progress(0.6, "Planning")
    draws = _Draws.of(result, site, progress=part(progress, 0.6, 0.9))
    probable = None
    if draws is not None:
        count = draws.count_that_holds(choices.share, choices.probability)
        probable = site.plan_of(site.densest(count, choices.smallest_part_ml), draws)
    made = {"standard": site.plan_of(standard, draws), "model": site.plan_of(model, draws)}
    left_out = float((~model[site.target]).mean())
    warnings = []
    if left_out > CORE_LEFT_OUT:
        warnings.append(
            f"The model's plan leaves out {100 * left_out:.0f} % of core and cavity: it follows the density "
            "alone. Add what is to be irradiated in any case."
        )
    progress(1.0, "Planned")
    return Plans(
        choices=choices,
        estimate=result.chosen,
        probable=probable,
        lowest_density=lowest,
        comparison=site.compared(standard, model),
        guidelines={name: site.plan_of(mask, draws) for name, mask in guidelines.items()},
        cavity_ml=float(np.count_nonzero(site.cavity) * site.grid.voxel_volume_ml),
        warnings=tuple(warnings),
        **made,
    )


@dataclass(frozen=True, eq=False)
class _Site:
    """Where plans are made: everything on the box of the T1Gd image's grid that holds the brain."""

    whole_grid: Grid
    start: NDArray[np.int64]
    grid: Grid
    density: NDArray[np.float32]
    tissue: NDArray[np.uint8]
    core: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    cavity: NDArray[np.bool_]
    within: NDArray[np.bool_]
    from_target: NDArray[np.float32]
    order: NDArray[np.int64]
    cells: float

    @property
    def target(self) -> NDArray[np.bool_]:
        """Core and cavity."""
        return self.core | self.cavity

    @classmethod
    def of(cls, result: Plannable, choices: PlanChoices, cavity: Volume | None) -> _Site:
        density, segmentation, tissue = result.density, result.segmentation.array, result.tissue.array
        hollow = np.zeros(density.grid.shape, bool)
        if cavity is not None:
            hollow = resample_mask(cavity, density.grid).array
            if not hollow.any():
                raise InputError("The cavity is empty or lies outside the T1Gd image; draw it on that image.")
        start, stop = bounding_box((tissue > 0) | (segmentation > 0) | hollow)
        box = tuple(slice(a, b) for a, b in zip(start, stop))
        tissue, segmentation, hollow = tissue[box], segmentation[box], hollow[box]
        core = segmentation == 1
        if not (core | hollow).any():
            raise InputError("The segmentation has no core, and no cavity was given: there is nothing to plan around.")
        grid = density.grid.cropped(start, stop)
        within = tissue > (CSF if choices.barrier == "csf" else 0)
        from_target = distance_from(Volume(core | hollow, grid))
        values = density.array[box]
        return cls(
            whole_grid=density.grid,
            start=start,
            grid=grid,
            density=values,
            tissue=tissue,
            core=core,
            whole=segmentation > 0,
            cavity=hollow,
            within=within,
            from_target=from_target,
            order=ranked(values, from_target, within),
            cells=float(density.array.sum(dtype=np.float64)),
        )

    def standard(self, guideline: Guideline) -> NDArray[np.bool_]:
        """The plan that a guideline states."""
        if guideline.region == "whole" and (self.whole & ~self.core).any():
            target = self.whole | self.cavity
            return margin_plan(target, distance_from(Volume(target, self.grid)), guideline.margin_mm, self.within)
        return margin_plan(self.target, self.from_target, guideline.margin_without_oedema_mm, self.within)

    def model_plan(self, choices: PlanChoices, count: int) -> tuple[NDArray[np.bool_], float]:
        """The model's plan and the lowest density in it; `count` are the standard plan's voxels."""
        if choices.above is not None:
            mask = without_small_parts(
                (self.density > choices.above) & self.within, self._voxels(choices.smallest_part_ml)
            )
            if not mask.any():
                raise InputError(
                    f"No part of {choices.smallest_part_ml:g} ml is denser than {choices.above:g}; "
                    "name a lower density."
                )
        else:
            if choices.volume != SAME_VOLUME:
                count = max(1, round(float(choices.volume) / self.grid.voxel_volume_ml))
            mask = self.densest(count, choices.smallest_part_ml)
        return mask, float(self.density[mask].min())

    def densest(self, count: int, smallest_part_ml: float) -> NDArray[np.bool_]:
        """The plan of the `count` densest voxels (see `densest_voxels`)."""
        if count > self.order.size:
            voxel = self.grid.voxel_volume_ml
            raise InputError(
                f"A plan of {count * voxel:.0f} ml was asked for, and where it may lie there are only "
                f"{self.order.size * voxel:.0f} ml; ask for a smaller one."
            )
        return densest_of(self.order, self.grid.shape, count, self._voxels(smallest_part_ml))

    def plan_of(self, mask: NDArray[np.bool_], draws: _Draws | None) -> Plan:
        """A plan on the whole grid, with its figures."""
        whole = np.zeros(self.whole_grid.shape, bool)
        whole[tuple(slice(a, a + n) for a, n in zip(self.start, mask.shape))] = mask
        inside = float(self.density[mask].sum(dtype=np.float64))
        outside = max(0.0, 1 - inside / self.cells) if self.cells else 0.0
        band = None
        if draws is not None:
            # As every band of the density holds it: the share of the mean is not the mean of the shares.
            low, high = draws.outside(mask)
            band = min(low, outside), max(high, outside)
        return Plan(Volume(whole, self.whole_grid), self._tissues(mask), outside, band)

    def compared(self, standard: NDArray[np.bool_], model: NDArray[np.bool_]) -> PlanComparison:
        """How two plans differ."""
        return PlanComparison(
            overlap_ml=float(np.count_nonzero(standard & model) * self.grid.voxel_volume_ml),
            dice=dice(standard, model),
            spared_ml=self._tissues(standard & ~model),
            added_ml=self._tissues(model & ~standard),
            outline_distance_mm=outline_distances(standard, model, self.grid),
        )

    def _tissues(self, mask: NDArray[np.bool_]) -> dict[str, float]:
        counts = np.bincount(self.tissue[mask], minlength=WHITE_MATTER + 1)
        return {name: float(counts[label] * self.grid.voxel_volume_ml) for name, label in TISSUES.items()}

    def _voxels(self, volume_ml: float) -> int:
        return int(np.ceil(volume_ml / self.grid.voxel_volume_ml - 1e-6))


@dataclass(frozen=True, eq=False)
class _Draws:
    """The joint draws of the density at every few voxels of a site, as cells counted along the site's order."""

    steps: tuple[slice, ...]
    order: NDArray[np.int64]
    voxels_for_each: float
    values: NDArray[np.float32]

    @classmethod
    def of(cls, result: Plannable, site: _Site, *, progress: Progress) -> _Draws | None:
        """The draws of a result; None where it was made without uncertainty."""
        if not result.has_draws:
            return None
        stride = np.maximum(1, np.floor(DRAW_SPACING / site.grid.spacing + 1e-6)).astype(int)
        steps = tuple(slice(int(n) // 2, None, int(n)) for n in stride)
        affine = site.grid.affine.copy()
        affine[:3, 3] = site.grid.to_ras(stride // 2)
        affine[:3, :3] = site.grid.affine[:3, :3] * stride
        i, j, k = (len(range(*one.indices(n))) for one, n in zip(steps, site.grid.shape))
        grid = Grid((i, j, k), affine)
        values = []
        for number, drawn in enumerate(result.drawn_densities(grid)):
            progress(number / 32, "Counting the cells of the draws")
            values.append(drawn.array.ravel())
        within = site.within[steps]
        return cls(
            steps=steps,
            order=ranked(site.density[steps], site.from_target[steps], within),
            voxels_for_each=site.order.size / max(1, int(np.count_nonzero(within))),
            values=np.array(values),
        )

    def outside(self, mask: NDArray[np.bool_]) -> tuple[float, float]:
        """5 and 95 % bound of the share of cells outside a plan."""
        inside = self.values[:, mask[self.steps].ravel()].sum(axis=1, dtype=np.float64)
        total = self.values.sum(axis=1, dtype=np.float64)
        low, high = np.percentile(1 - inside / np.maximum(total, 1e-12), (5, 95))
        return float(max(0.0, low)), float(max(0.0, high))

    def count_that_holds(self, share: float, probability: float) -> int:
        """How many of the site's densest voxels hold a share of the cells in a share of the draws."""
        held = np.cumsum(self.values[:, self.order], axis=1, dtype=np.float64)
        wanted = share * self.values.sum(axis=1, dtype=np.float64)
        # Cells outside of where a plan may lie count as cells that none can hold.
        counts = np.sort([np.searchsorted(one, least) + 1 for one, least in zip(held, wanted)])
        needed = counts[int(np.ceil(probability * len(counts) - 1e-9)) - 1]
        return round(min(needed, self.order.size) * self.voxels_for_each)


def _core_guideline(margin: float | str) -> Guideline:
    """A margin around core and cavity that no guideline is named for."""
    return Guideline("", "core", float(margin), float(margin), "")


def standard_title(choices: PlanChoices) -> str:
    """What the standard plan is, in words."""
    if choices.guideline is None:
        known = [guideline.title for guideline in GUIDELINES.values() if _is(guideline, choices.margin)]
        return f"core and cavity + {choices.margin:g} mm" + (f", {known[0]}" if known else "")
    region = "whole tumour" if choices.guideline.region == "whole" else "core and cavity"
    return f"{region} + {choices.guideline.margin_mm:g} mm, {choices.guideline.title}"


def _is(guideline: Guideline, margin: float | str) -> bool:
    return guideline.region == "core" and guideline.margin_mm == margin


def _percent(one: Plan) -> str:
    band = one.cells_outside_band
    sure = "" if band is None else f" (90 %: {100 * band[0]:.1f} to {100 * band[1]:.1f})"
    return f"{100 * one.cells_outside:.1f} %{sure}"


def _listed(tissues: dict[str, float]) -> str:
    return f"{tissues['white_matter_ml']:.1f} ml of white and {tissues['grey_matter_ml']:.1f} ml of grey matter"
