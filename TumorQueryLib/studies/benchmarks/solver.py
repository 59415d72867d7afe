"""Speed and time error of the growth model, beside the field's reference scheme in the same run."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import TISSUE_THRESHOLD, Tissue
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.base.timing import Stopwatch
from TumorQueryLib.geometry.regions import dice
from TumorQueryLib.growth import GrowthParameters, grow_trajectory, simulate
from TumorQueryLib.studies.benchmarks import tumor_growth_toolkit

#: Diffusivity (mm^2/day), proliferation (1/day), duration (days).
CASES = {
    "A": (1.0, 0.1, 100.0),
    "B": (0.15, 0.15, 100.0),
    "C": (0.1, 0.02, 500.0),
    "D": (0.3, 0.05, 100.0),
}
#: Near the left centrum semiovale of MNI152, RAS mm; the nearest cell of pure white matter is the seed.
PLACE = (-32.0, -29.0, 40.5)
#: Solves of ours whose median time counts; the reference takes long enough for one.
REPEATS = 5
#: Dice is computed for these regions of a case; D has hardly a core.
REGIONS = {"dice_02": 0.2, "dice_06": 0.6}
CASES_WITHOUT_CORE = ("D",)


def benchmark(*, progress: Progress = no_progress) -> dict[str, Any]:
    """Solve cases A to D on MNI152 with `growth.simulate` and with the reference scheme.

    Grid, tissue, parameters and starting field are the same for both. The time error is
    given as the Dice of the regions above 0.2 and 0.6 against a solution with a quarter of
    the step.

    Returns
    -------
    dict
        `seed_mm` (RAS), `ns_per_voxel_update` (one whole time step of one cell of the active
        box, mean of the cases), `geometric_mean_ratio`, and for each case of `cases`:
        `seconds`, `reference_seconds`, `ratio`, `steps`, `ns_per_voxel_update`, `volume_ml`,
        `dice_02`, `dice_06` (A to C) and `dice_02_with_reference`.
    """
    atlas = Atlas.load("MNI152")
    tissue = Tissue.from_atlas(atlas)
    cells = np.argwhere(atlas.white_matter >= 0.99)
    centres = atlas.grid.to_ras(cells)
    seed = centres[np.argmin(((centres - PLACE) ** 2).sum(axis=1))]
    points = atlas.grid.to_ras(np.moveaxis(np.indices(atlas.grid.shape), 0, -1))
    initial = np.where(tissue.mask, tumor_growth_toolkit.starting_field(points, seed), 0.0)
    place = (float(seed[0]), float(seed[1]), float(seed[2]))
    # Compiling, or loading what was compiled, is no part of a solve.
    simulate(GrowthParameters(place, 1.0, 0.1, 10.0), tissue, initial)

    cases: dict[str, dict[str, Any]] = {}
    for number, (name, values) in enumerate(CASES.items()):
        progress(number / len(CASES), f"Case {name}")
        cases[name] = _measure(name, GrowthParameters(place, *values), atlas, tissue, initial)
    progress(1.0, "Done")
    return {
        "atlas": atlas.name,
        "seed_mm": list(place),
        "cases": cases,
        "ns_per_voxel_update": statistics.fmean(case["ns_per_voxel_update"] for case in cases.values()),
        "geometric_mean_ratio": statistics.geometric_mean(case["ratio"] for case in cases.values()),
    }


def as_text(result: dict[str, Any]) -> str:
    """The result of `benchmark` as a table."""
    lines = [
        f"Growth model on {result['atlas']}, seed at {result['seed_mm']} mm RAS",
        "case    ours s   reference s   ratio   ns/voxel/step   Dice(0.2)   Dice(0.6)",
    ]
    for name, case in result["cases"].items():
        core = f"{case['dice_06']:.4f}" if "dice_06" in case else "-"
        lines.append(
            f"{name:<4} {case['seconds']:9.4f} {case['reference_seconds']:13.2f} {case['ratio']:7.0f} "
            f"{case['ns_per_voxel_update']:15.2f} {case['dice_02']:11.4f} {core:>11}"
        )
    lines.append(
        f"geometric mean of the ratios: {result['geometric_mean_ratio']:.0f}; Dice against a quarter of the step"
    )
    return "\n".join(lines)


def _measure(
    name: str, parameters: GrowthParameters, atlas: Atlas, tissue: Tissue, initial: NDArray[np.float64]
) -> dict[str, Any]:
    seconds = []
    for _ in range(REPEATS):
        with Stopwatch() as taken:
            density = simulate(parameters, tissue, initial)
        seconds.append(taken.wall)
    with Stopwatch() as taken:
        reference = tumor_growth_toolkit.simulate(
            atlas.white_matter,
            atlas.grey_matter,
            float(atlas.grid.spacing[0]),
            parameters.diffusivity,
            parameters.proliferation,
            parameters.duration,
            initial,
            tissue_threshold=TISSUE_THRESHOLD,
        )
    exact = simulate(parameters, tissue, initial, step_share=0.25)
    case: dict[str, Any] = {
        "diffusivity_mm2_per_day": parameters.diffusivity,
        "proliferation_per_day": parameters.proliferation,
        "duration_days": parameters.duration,
        "seconds": statistics.median(seconds),
        "reference_seconds": taken.wall,
        "ratio": taken.wall / statistics.median(seconds),
    }
    steps, updates = _work(parameters, tissue, initial)
    case["steps"] = steps
    case["ns_per_voxel_update"] = case["seconds"] / updates * 1e9
    case["volume_ml"] = float(np.count_nonzero(density > 0.2)) * atlas.grid.voxel_volume_ml
    for key, threshold in REGIONS.items():
        if key == "dice_02" or name not in CASES_WITHOUT_CORE:
            case[key] = dice(density > threshold, exact > threshold)
    case["dice_02_with_reference"] = dice(density > 0.2, reference > 0.2)
    return case


def _work(parameters: GrowthParameters, tissue: Tissue, initial: NDArray[np.float64]) -> tuple[int, int]:
    """Whole steps of a solve, and cells that they update in all."""
    steps, updates = 0, 0
    trajectory = grow_trajectory(
        parameters.seed, parameters.infiltration_length, tissue, every_step=True, initial=initial
    )
    for moment in trajectory:
        if moment.rho_t >= parameters.rho_t:
            break
        steps += 1
        updates += math.prod(moment.density.shape)
    return steps, updates
