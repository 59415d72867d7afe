"""How well and how fast the registration works, with truth where there is one.

- Another anatomy: MNI152 to SRI24 from the T1 alone, then Dice of both atlases' tissues.
- A known warp: MNI152, warped, tilted, scaled, with noise, a bias field, another
  contrast and a tumour, registered to MNI152; error of every point outside the tumour.
- A cohort: folds, error there and back, and CPU seconds on patients.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.base.timing import Stopwatch
from TumorQueryLib.geometry import regions
from TumorQueryLib.geometry.grid import Volume, resample
from TumorQueryLib.geometry.transforms import map_points
from TumorQueryLib.inputs.cohort_file import CohortRow, read_cohort
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.registration import Registration, register
from TumorQueryLib.registration.velocity_field import Level, register_by_velocity_field
from TumorQueryLib.studies.phantom import warped_patient
from TumorQueryLib.studies.queries import LeftOut, of_each_patient

#: What ANTs SyN (antspyx 0.6.3, its defaults) reached on the same two tasks.
ANTS_SYN = {"csf": 0.434, "grey_matter": 0.774, "white_matter": 0.857, "median_error_mm": 1.63, "cpu_s": 49.6}


def benchmark(cohort: str | os.PathLike | None = None, *, progress: Progress = no_progress) -> dict[str, Any]:
    """Measure the deformable registration.

    Parameters
    ----------
    cohort : path, optional
        CSV file of patients (see `inputs.cohort_file`); each is registered to SRI24.
    progress : Progress

    Returns
    -------
    dict
        `tissue_dice` {csf, grey_matter, white_matter}, `known_warp` {median_mm, p95_mm, in_tumour_median_mm},
        `patients` [{patient, ...}]; each with the registration's `quality` and `cpu_s`, `wall_s`; `left_out`, the
        reason of each patient who cannot be used.
    """
    steps = 2
    rows = []
    if cohort is not None:
        rows = read_cohort(cohort)
        steps += len(rows)
    # The first call compiles the kernels where they are not cached yet; that is not what is measured.
    _compile()
    result: dict[str, Any] = {
        "tissue_dice": tissue_dice_between_atlases(progress=part(progress, 0, 1 / steps)),
        "known_warp": known_warp_error(progress=part(progress, 1 / steps, 2 / steps)),
    }
    return result | measure_patients(rows, Atlas.load(), progress=part(progress, 2 / steps, 1.0))


def measure_patients(rows: Sequence[CohortRow], atlas: Atlas, *, progress: Progress = no_progress) -> dict[str, Any]:
    """Register each patient of a cohort; one that cannot be used never stops the rest.

    Returns
    -------
    dict
        `patients`: [{patient, the registration's quality, `cpu_s`, `wall_s`, `warnings`}]; `left_out`: the reason of
        each who cannot be used, by name.
    """

    def measured(name: str, patient: Patient, report: Progress) -> dict[str, Any]:
        registration, seconds = _timed(
            patient.registration_image,
            atlas,
            tumour=patient.whole,
            brain_mask=patient.brain_mask,
            progress=report,
        )
        return {"patient": name, **registration.quality, **seconds, "warnings": list(registration.warnings)}

    made = list(of_each_patient(rows, measured, progress=progress))
    return {
        "patients": [one for one in made if not isinstance(one, LeftOut)],
        "left_out": {one.name: one.reason for one in made if isinstance(one, LeftOut)},
    }


def as_text(result: dict[str, Any]) -> str:
    """The result of `benchmark` as a table for people."""
    tissue, warp = result["tissue_dice"], result["known_warp"]
    lines = [
        "Registration, deformable",
        f"  MNI152 to SRI24, Dice CSF {tissue['csf']:.3f}, grey {tissue['grey_matter']:.3f}, white "
        f"{tissue['white_matter']:.3f}; {tissue['cpu_s']:.1f} CPU s, {tissue['wall_s']:.1f} s "
        f"(ANTs SyN {ANTS_SYN['csf']:.3f}, {ANTS_SYN['grey_matter']:.3f}, {ANTS_SYN['white_matter']:.3f}; "
        f"{ANTS_SYN['cpu_s']:.0f} CPU s)",
        f"  known warp, error {warp['median_mm']:.2f} mm median, {warp['p95_mm']:.2f} mm at 95 %, "
        f"{warp['in_tumour_median_mm']:.2f} mm in the tumour; {warp['cpu_s']:.1f} CPU s "
        f"(ANTs SyN {ANTS_SYN['median_error_mm']:.2f} mm median)",
    ]
    if result["patients"]:
        lines.append(f"  {'patient':24s} brain  corr.  min J  there and back (95 %)  CPU s  wall s")
        lines += [
            f"  {p['patient'][:24]:24s} {p['brain_dice']:.3f}  {p['correlation']:.3f}  {p['jacobian_min']:5.2f}"
            f"  {p['inverse_error_p95_mm']:17.2f} mm  {p['cpu_s']:6.1f}  {p['wall_s']:5.1f}"
            for p in result["patients"]
        ]
    lines += [f"  left out: {name}: {reason}" for name, reason in result["left_out"].items()]
    return "\n".join(lines)


def tissue_dice_between_atlases(*, progress: Progress = no_progress) -> dict[str, float]:
    """Register the T1 of MNI152 to SRI24 and compare tissues that neither side has seen.

    Returns
    -------
    dict
        Dice of `csf`, `grey_matter`, `white_matter` (a voxel whose probabilities add up to more than one half
        belongs to its most probable tissue; maps of 1.5 mm blur the thin CSF, with the original maps of 1 mm its
        Dice is some .03 higher), the registration's quality, `cpu_s`, `wall_s`.
    """
    moving, fixed = Atlas.load("MNI152"), Atlas.load("SRI24")
    registration, seconds = _timed(moving.t1, fixed, progress=progress)
    names = ("csf", "grey_matter", "white_matter")
    truth = _most_probable([getattr(fixed, name) for name in names])
    moved = _most_probable(
        [
            resample(Volume(getattr(moving, name), moving.grid), fixed.grid, registration.atlas_to_patient).array
            for name in names
        ]
    )
    dice = {name: regions.dice(moved == n, truth == n) for n, name in enumerate(names, start=1)}
    return {**dice, **registration.quality, **seconds}


def known_warp_error(random_seed: int = 0, *, progress: Progress = no_progress) -> dict[str, float]:
    """Register a warped MNI152 with a tumour to MNI152, where the true map of every point is known.

    Returns
    -------
    dict
        `median_mm`, `p95_mm` (error in the brain outside the dilated tumour), `in_tumour_median_mm`, the
        registration's quality, `cpu_s`, `wall_s`.
    """
    atlas = Atlas.load("MNI152")
    image, tumour, truth = warped_patient(atlas, random_seed)
    registration, seconds = _timed(image, atlas, tumour=tumour, progress=progress)
    return {**point_errors(registration, image, tumour, truth), **registration.quality, **seconds}


def point_errors(registration: Registration, image: Volume, tumour: Volume, truth: Any) -> dict[str, float]:
    """Errors of a registration of `warped_patient` in atlas mm: outside the dilated tumour, and in the tumour."""
    outside = ndimage.binary_dilation(tumour.array, iterations=3)
    errors = {}
    for name, region in (("outside", (image.array > 0) & ~outside), ("tumour", tumour.array)):
        indices = np.argwhere(region)
        points = image.grid.to_ras(indices[:: max(1, len(indices) // 20_000)])
        found = map_points(registration.patient_to_atlas, points)
        errors[name] = np.linalg.norm(found - map_points(truth, points), axis=1)
    return {
        "median_mm": float(np.median(errors["outside"])),
        "p95_mm": float(np.percentile(errors["outside"], 95)),
        "in_tumour_median_mm": float(np.median(errors["tumour"])),
    }


def _timed(image: Volume, atlas: Atlas, **arguments: Any) -> tuple[Registration, dict[str, float]]:
    with Stopwatch() as taken:
        registration = register(image, atlas, "deformable", **arguments)
    return registration, {"cpu_s": taken.cpu, "wall_s": taken.wall}


def _most_probable(maps: list[np.ndarray]) -> np.ndarray:
    """1, 2, 3 for the most probable tissue, 0 for background."""
    stacked = np.stack(maps)
    return np.where(stacked.sum(axis=0) > 0.5, 1 + stacked.argmax(axis=0), 0)


def _compile() -> None:
    image = np.zeros((9, 9, 9), dtype=np.float32)
    register_by_velocity_field(image, image, image, image, levels=(Level(1, 1), Level(2, 1)))
