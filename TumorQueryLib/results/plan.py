"""What might be irradiated: the margin that a guideline states, and the plan that the density suggests beside it.

Both are masks on the T1Gd image's grid, cut at the brain but for core and cavity, which the margin's plan always holds.
A plan is a proposal to compare, not a prescription.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.anatomy.anatomy import CSF, GREY_MATTER, WHITE_MATTER
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.plan_choices import GUIDELINES, SAME_VOLUME, Guideline, PlanChoices
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.estimates.uncertainty import SAVED_DRAWS
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.regions import bounding_box, dice, distance_from, slices_between
from TumorQueryLib.inputs.patient import cavity_on
from TumorQueryLib.results.plan_masks import densest_of, margin_plan, outline_distances, ranked, without_small_parts

TISSUES = {"white_matter_ml": WHITE_MATTER, "grey_matter_ml": GREY_MATTER, "csf_ml": CSF}
#: mm; cells of the joint draws are counted at voxels this far apart, on finer grids.
DRAW_SPACING = 2.0
#: The estimate that the joint draws belong to.
WITH_DRAWS = "assimilated"
#: Share of core and cavity that the model's plan may leave out without a warning.
CORE_LEFT_OUT = 0.01
#: ml; less of core or cavity outside the brain is not said.
OUTSIDE_BRAIN_ML = 0.05


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
        5 and 95 % bound of that share over the joint draws of the density, widened where need be to hold the share
        itself: the share of a mean density is not the mean of the shares.
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
    standard_title : str
        What the standard plan is, in words.
    standard, model : Plan
    probable : Plan, optional
        The smallest of the plans that follow the density and hold `choices.share` of the cells with
        `choices.probability`; None where the uncertainty of the density is not known, or no plan holds so much.
    lowest_density : float
        The lowest density in the model's plan.
    comparison : PlanComparison
        Of the model's plan with the standard one.
    guidelines : dict of str to Plan
        What each guideline asks for, by its name.
    cavity_ml : float
        Of the resection cavity that was counted with the core.
    warnings : tuple of str
    cavity : Volume, optional
        The cavity that was given to the plans, boolean, on the T1Gd image's grid; None where it is the result's own.
    """

    choices: PlanChoices
    estimate: str
    standard_title: str
    standard: Plan
    model: Plan
    probable: Plan | None
    lowest_density: float
    comparison: PlanComparison
    guidelines: dict[str, Plan]
    cavity_ml: float
    warnings: tuple[str, ...] = field(default=())
    cavity: Volume | None = None

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
            "standard": {"title": self.standard_title, **self.standard.as_json()},
            "model": {"lowest_density": round(self.lowest_density, 6), **self.model.as_json()},
            "probable": None if self.probable is None else self.probable.as_json(),
            "comparison": self.comparison.as_json(),
            "guidelines": [
                {"name": name, "title": GUIDELINES[name].title, "source": GUIDELINES[name].source, **plan.as_json()}
                for name, plan in self.guidelines.items()
            ],
            "cavity_ml": round(self.cavity_ml, 3),
            "mask_sha256": {name: mask_sum(mask) for name, mask in self.masks.items()},
            "sentences": self.sentences(),
            "warnings": list(self.warnings),
        }

    def sentences(self) -> list[str]:
        """The comparison in words."""
        standard, model, choices = self.standard, self.model, self.choices
        said = [
            f"The standard plan ({self.standard_title}) has {standard.volume_ml:.0f} ml and leaves "
            f"{_percent(standard)} of the modelled cells outside; the model's plan has {model.volume_ml:.0f} ml, "
            f"{self._reach()}, and leaves {_percent(model)}.",
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
                f"The smallest plan by that density that holds {100 * choices.share:g} % of the cells with a "
                f"probability of {100 * choices.probability:g} % has {self.probable.volume_ml:.0f} ml."
            )
        said.append("Whether the modelled cells are the patient's no image shows: a plan is a proposal to compare.")
        return said

    def _reach(self) -> str:
        """How far down the density the model's plan goes."""
        if self.lowest_density > 0:
            return f"down to a density of {self.lowest_density:.2g}"
        return "filled up by what lies nearest to the core where there are no more cells"


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
        When there is no core to put a margin around, the cavity lies elsewhere than T1Gd or brain, or the model's plan
        cannot have the volume that was asked for.
    """
    choices = PlanChoices() if choices is None else choices
    progress(0.0, "Planning")
    said: list[str] = []
    own = result.cavity
    if cavity is not None:
        cavity = cavity_on(result.density.grid, cavity, said)
        if own is not None and np.array_equal(own.array, cavity.array):
            cavity = None
    site = _Site.of(result, choices, own if cavity is None else cavity)
    standard, title = site.standard(choices.guideline or _core_guideline(choices.margin))
    guidelines = {name: site.standard(guideline)[0] for name, guideline in GUIDELINES.items() if site.has(guideline)}
    progress(0.4, "Planning")
    wanted = int(np.count_nonzero(standard))
    model = site.model_plan(choices, wanted)
    progress(0.6, "Planning")
    draws = _Draws.of(result, site, progress=part(progress, 0.6, 0.9))
    held = None if draws is None else site.probable_plan(draws, choices)
    progress(1.0, "Planned")
    return Plans(
        choices=choices,
        estimate=result.chosen,
        standard_title=title,
        standard=site.plan_of(standard, draws),
        model=site.plan_of(model, draws),
        probable=None if held is None else site.plan_of(held, draws),
        lowest_density=float(site.density[model].min()),
        comparison=site.compared(standard, model),
        guidelines={name: site.plan_of(mask, draws) for name, mask in guidelines.items()},
        cavity_ml=float(np.count_nonzero(site.cavity) * site.grid.voxel_volume_ml),
        warnings=(
            *said,
            *site.outside_brain(),
            *_cut_at(standard, site),
            *_capped(choices, wanted, model, site.grid),
            *_warnings(result, choices, site.left_out(model), draws is not None, held is not None),
        ),
        cavity=cavity if cavity is not None and cavity.array.any() else None,
    )


def mask_sum(mask: Volume) -> str:
    """SHA-256 of a mask's voxels, whatever file holds them: eight to a byte, the last axis the fastest."""
    return hashlib.sha256(np.packbits(mask.array != 0).tobytes()).hexdigest()


def _cut_at(standard: NDArray[np.bool_], site: _Site) -> Iterator[str]:
    """What is to be said where the standard plan reaches an end of the image at which there is brain."""
    there = standard & (site.tissue > 0)
    ends = zip(site.start == 0, site.start + there.shape == site.whole_grid.shape)
    if any(is_end and there.take(at, axis).any() for axis, two in enumerate(ends) for at, is_end in zip((0, -1), two)):
        yield (
            "The standard plan reaches the edge of the T1Gd, at which the brain goes on: what of the margin lies "
            "beyond is in no plan and in no volume."
        )


def _capped(choices: PlanChoices, wanted: int, model: NDArray[np.bool_], grid: Grid) -> Iterator[str]:
    """What is to be said where a model's plan as large as the standard one has no room."""
    have = int(np.count_nonzero(model))
    if choices.volume == SAME_VOLUME and have < wanted:
        yield (
            f"The standard plan has {wanted * grid.voxel_volume_ml:.0f} ml, more than the "
            f"{have * grid.voxel_volume_ml:.0f} ml in which the model's may lie: it has all of these."
        )


def _warnings(
    result: Plannable, choices: PlanChoices, left_out: float, has_draws: bool, has_probable: bool
) -> Iterator[str]:
    """What the user should know of the plans; `left_out` is the share of core and cavity outside the model's."""
    if left_out > CORE_LEFT_OUT:
        yield (
            f"The model's plan leaves out {100 * left_out:.0f} % of core and cavity: it follows the density alone. "
            "Add what is to be irradiated in any case."
        )
    if result.has_draws and not has_draws:
        yield (
            f"The uncertainty is that of the density {WITH_DRAWS}, and these plans follow the density {result.chosen}: "
            "there is no interval of the cells outside, and no plan of a probability."
        )
    if has_draws and not has_probable:
        yield (
            f"No plan that may lie here holds {100 * choices.share:g} % of the cells with a probability of "
            f"{100 * choices.probability:g} %: too many lie where no plan may."
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
        hollow = np.zeros(density.grid.shape, bool) if cavity is None else cavity.array
        if hollow.any() and (tissue[hollow] == 0).mean() > 0.5:
            raise InputError(
                f"{(tissue[hollow] == 0).mean():.0%} of the resection cavity lies outside the brain (as tissue.nrrd "
                "has it); draw it on this patient's T1Gd, or correct the brain mask and infer again."
            )
        start, stop = bounding_box((tissue > 0) | (segmentation > 0) | hollow)
        box = slices_between(start, stop)
        tissue, segmentation, hollow = tissue[box], segmentation[box], hollow[box]
        core = segmentation == 1
        whole_is_planned = choices.guideline is not None and choices.guideline.region == "whole"
        if not (core | hollow).any() and not whole_is_planned:
            raise InputError(
                "The segmentation has no core, and no cavity was given: there is nothing to put this margin around. "
                "Give a cavity, or name a margin of the whole tumour (rtog-1)."
            )
        grid = density.grid.cropped(start, stop)
        within = tissue > (CSF if choices.barrier == "csf" else 0)
        from_target = distance_from(Volume(core | hollow if (core | hollow).any() else segmentation > 0, grid))
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

    def outside_brain(self) -> Iterator[str]:
        """What is to be said of core and cavity outside the brain, which the standard plan holds all the same."""
        found = {"core": self.core, "cavity": self.cavity & ~self.core}
        ml = {
            name: np.count_nonzero(mask & (self.tissue == 0)) * self.grid.voxel_volume_ml
            for name, mask in found.items()
        }
        said = [f"{volume:.1f} ml of the {name}" for name, volume in ml.items() if volume > OUTSIDE_BRAIN_ML]
        if said:
            yield (
                f"{' and '.join(said)} lie outside the brain: the standard plan holds them all the same, and the "
                "model's does not."
            )

    def left_out(self, mask: NDArray[np.bool_]) -> float:
        """The share of core and cavity outside a plan."""
        return float((~mask[self.target]).mean()) if self.target.any() else 0.0

    def has(self, guideline: Guideline) -> bool:
        """Whether there is anything to put a guideline's margin around."""
        return bool(self.target.any()) or (guideline.region == "whole" and bool(self.whole.any()))

    def standard(self, guideline: Guideline) -> tuple[NDArray[np.bool_], str]:
        """The plan that a guideline states, and what it is in words."""
        if guideline.region == "whole" and (self.whole & ~self.core).any():
            target, margin, around = self.whole | self.cavity, guideline.margin_mm, "whole tumour and cavity"
            distance = distance_from(Volume(target, self.grid))
        else:
            target, margin, around = self.target, guideline.margin_without_oedema_mm, "core and cavity"
            distance = self.from_target
        title = f"{around} + {margin:g} mm" + (f", {guideline.title}" if guideline.title else "")
        return margin_plan(target, distance, margin, self.within), title

    def model_plan(self, choices: PlanChoices, count: int) -> NDArray[np.bool_]:
        """The model's plan; `count` are the standard plan's voxels."""
        if choices.above is None:
            if choices.volume != SAME_VOLUME:
                count = max(1, round(float(choices.volume) / self.grid.voxel_volume_ml))
            else:
                count = min(count, self.order.size) or count
            return self.densest(count, choices.smallest_part_ml)
        mask = without_small_parts((self.density > choices.above) & self.within, self._voxels(choices.smallest_part_ml))
        if not mask.any():
            raise InputError(
                f"No part of {choices.smallest_part_ml:g} ml is denser than {choices.above:g}; name a lower density."
            )
        return mask

    def probable_plan(self, draws: _Draws, choices: PlanChoices) -> NDArray[np.bool_] | None:
        """The smallest plan by the density that holds a share of the cells in a share of the draws, if one does."""
        count = draws.count_that_holds(choices.share, choices.probability)
        while count <= self.order.size:
            mask = self.densest(count, choices.smallest_part_ml)
            if draws.share_of_draws(mask, choices.share) >= choices.probability - 1e-9:
                return mask
            # Parts that were left out held some of the cells.
            count += max(1, count // 100)
        return None

    def densest(self, count: int, smallest_part_ml: float) -> NDArray[np.bool_]:
        """The plan of the `count` densest voxels (see `densest_of`)."""
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
        whole[slices_between(self.start, self.start + mask.shape)] = mask
        inside = float(self.density[mask].sum(dtype=np.float64))
        outside = max(0.0, 1 - inside / self.cells) if self.cells else 0.0
        band = None
        if draws is not None:
            # As every band of the density holds the density.
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
        """The draws of a result; None where it has none, or shows another estimate than theirs."""
        if not result.has_draws or result.chosen != WITH_DRAWS:
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
            progress(number / SAVED_DRAWS, "Counting the cells of the draws")
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

    def share_of_draws(self, mask: NDArray[np.bool_], share: float) -> float:
        """In what share of the draws a plan holds at least a share of the cells."""
        inside = self.values[:, mask[self.steps].ravel()].sum(axis=1, dtype=np.float64)
        return float((inside >= share * self.values.sum(axis=1, dtype=np.float64)).mean())

    def count_that_holds(self, share: float, probability: float) -> int:
        """How many of the site's densest voxels hold a share of the cells in a share of the draws.

        More than there are where all of them do not: cells outside of where a plan may lie count as cells that none can
        hold.
        """
        held = np.cumsum(self.values[:, self.order], axis=1, dtype=np.float64)
        wanted = share * self.values.sum(axis=1, dtype=np.float64)
        counts = np.sort([np.searchsorted(one, least) + 1 for one, least in zip(held, wanted)])
        needed = int(counts[int(np.ceil(probability * len(counts) - 1e-9)) - 1])
        return round(needed * self.voxels_for_each)


def _core_guideline(margin: float | str) -> Guideline:
    """A margin around core and cavity in mm; of the guideline that states the same one, if one does."""
    known = [one for one in GUIDELINES.values() if one.region == "core" and one.margin_mm == margin]
    return known[0] if known else Guideline("", "core", float(margin), float(margin), "")


def _percent(one: Plan) -> str:
    band = one.cells_outside_band
    sure = "" if band is None else f" (90 %: {100 * band[0]:.1f} to {100 * band[1]:.1f})"
    return f"{100 * one.cells_outside:.1f} %{sure}"


def _listed(tissues: dict[str, float]) -> str:
    return f"{tissues['white_matter_ml']:.1f} ml of white and {tissues['grey_matter_ml']:.1f} ml of grey matter"
