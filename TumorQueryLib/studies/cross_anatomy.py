"""The way of the data measured against a known truth, in another anatomy.

Tumours with known parameters grow in MNI152, whose tissue maps, T1 and shape are
not those of SRI24. Each is warped, tilted, scaled and painted as T1 and T1Gd of a
patient; the pipeline sees the images and the segmentation only and works with
the SRI24 database. Then its density is compared with the true one. The same with a
better registration and with the true tissue maps tells which step costs what.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import Cancelled, InputError
from TumorQueryLib.base.files import staged_folder, write_json
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.geometry.grid import Grid, Volume, place_image, ras_to_lps, resample

if TYPE_CHECKING:
    from TumorQueryLib.database import TumorDatabase
    from TumorQueryLib.growth import GrowthParameters
    from TumorQueryLib.inputs.patient import Patient
    from TumorQueryLib.registration import Registration

MODES = ("none", "atlas", "patient")
#: Beside the pipeline's own registration: one from MNI152's clean T1, without tumour, noise or tilt; and the
#: refinement in the patient's anatomy with the true tissue maps instead of SRI24's.
VARIANTS = ("pipeline", "clean registration", "true tissue maps")
LEVELS = (0.05, 0.2, 0.4, 0.6, 0.8)
NEAR = 20.0  # mm around the whole tumour
SPACING = 1.25  # mm; of the made-up patient's images
WARP = 6.0  # mm, the longest displacement; Gaussian of 25 mm
TILT = 15.0  # degrees, the largest angle about each axis
SCALE = 0.08  # the largest change of length along each axis
NOISE = 0.03  # of white matter's intensity
BIAS = 0.15
#: With the mass effect, tissue lies this share of the tumour's radius further out than it grew.
PUSH = 0.25


@dataclass(frozen=True, eq=False)
class TruthCase:
    """A made-up patient and all that is known of the tumour.

    Parameters
    ----------
    patient : Patient
        T1, T1Gd and FLAIR painted from the density, and its segmentation at the database's thresholds.
    parameters : GrowthParameters
        In MNI152, RAS mm.
    density : Volume
        True density on the images' grid.
    brain : ndarray of bool
        On the images' grid.
    truth : Registration
        The true map between the patient and MNI152.
    """

    patient: Patient
    parameters: GrowthParameters
    density: Volume
    brain: NDArray[np.bool_]
    truth: Registration


def make_case(
    anatomy: Atlas,
    parameters: GrowthParameters,
    thresholds: tuple[float, float],
    *,
    random_seed: int,
    mass_effect: bool = False,
) -> TruthCase:
    """Grow a tumour in an anatomy and make a patient of it.

    Parameters
    ----------
    anatomy : Atlas
    parameters : GrowthParameters
        Seed in the anatomy, RAS mm.
    thresholds : tuple of float
        Density above which the core and the whole tumour are segmented.
    random_seed : int
        Of warp, tilt, scale, bias and noise.
    mass_effect : bool
        Push the tissue outward around the tumour.

    Returns
    -------
    TruthCase
    """
    from TumorQueryLib.growth import simulate
    from TumorQueryLib.inputs.patient import Patient
    from TumorQueryLib.registration import Registration

    random = np.random.default_rng([random_seed, 77])
    in_anatomy = simulate(parameters, anatomy)
    to_anatomy, to_patient, centre = _random_map(anatomy, in_anatomy, random, PUSH if mass_effect else 0.0)
    truth = Registration("deformable", to_anatomy, to_patient, {}, ())
    size = int(np.ceil(1.35 * np.max(anatomy.t1.grid.spacing * anatomy.t1.grid.shape) / SPACING))
    grid = Grid.isotropic(size, SPACING, centre)

    def carried(array: NDArray[np.float32], source: Grid) -> NDArray[np.float32]:
        return resample(Volume(array, source), grid, to_anatomy).array

    brain = carried(anatomy.brain_mask.array.astype(np.float32), anatomy.t1.grid) > 0.5
    # Cropped to the brain: every voxel costs time in all that follows.
    spans = [np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    start, stop = [int(s[0]) - 4 for s in spans], [int(s[-1]) + 5 for s in spans]
    grid = grid.cropped(start, stop)
    brain = carried(anatomy.brain_mask.array.astype(np.float32), anatomy.t1.grid) > 0.5
    density = carried(in_anatomy, anatomy.grid)
    t1 = carried(anatomy.t1.array / np.percentile(anatomy.t1.array[anatomy.t1.array > 0], 95), anatomy.t1.grid)
    tissue = [carried(m, anatomy.grid) for m in (anatomy.white_matter, anatomy.grey_matter, anatomy.csf)]
    core, whole = density > thresholds[0], density > thresholds[1]
    images = {
        name: Volume(_scanned(image, brain, grid, random), grid)
        for name, image in _painted(t1, tissue, core, whole, grid).items()
    }
    patient = Patient(
        t1gd=images["t1gd"],
        flair=images["flair"],
        t1=images["t1"],
        core=Volume(core, grid),
        whole=Volume(whole, grid),
        brain_mask=None,
        inputs=(),
        warnings=(),
    )
    return TruthCase(patient, parameters, Volume(density, grid), brain, truth)


def run_cross_anatomy(
    count: int,
    database: TumorDatabase | str = "starter",
    out: Path | None = None,
    *,
    random_seed: int = 0,
    mass_effect: bool = False,
    budget_solves: int | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Measure the pipeline on made-up patients of MNI152.

    Parameters
    ----------
    count : int
        Number of tumours, all with a visible core.
    database : TumorDatabase or str
        In SRI24.
    out : Path, optional
        Folder for cross_anatomy.json, cross_anatomy.csv (a row for each tumour, variant and mode),
        cross_anatomy.md (the table) and cross_anatomy.png.
    random_seed : int
    mass_effect : bool
    budget_solves : int, optional
        Of each refinement; its default otherwise.
    progress : Progress

    Returns
    -------
    dict
        `cases`: a list of rows, see `measure_case`; `summary`: their medians by variant and mode.

    Raises
    ------
    InputError
        When `count` is below 1 or the database is not of SRI24.
    """
    from TumorQueryLib.base.parallel import available_cores, in_order
    from TumorQueryLib.database import TumorDatabase, sample_synthetic
    from TumorQueryLib.estimates.refine import DEFAULT_SOLVES
    from TumorQueryLib.registration import register
    from TumorQueryLib.strategies import create_strategy

    if count < 1:
        raise InputError(f"The truth experiment needs at least one tumour, not {count}.")
    if not isinstance(database, TumorDatabase):
        database = TumorDatabase.open(database)
    atlas = database.load_atlas("SRI24")
    anatomy = Atlas.load("MNI152")
    thresholds = (database.threshold_core, database.threshold_whole)
    engine = create_strategy("direct", database)
    between = register(anatomy.t1, atlas, progress=part(progress, 0, 0.02))
    tumours = [
        tumour.parameters
        for tumour in sample_synthetic(anatomy, count, random_seed=random_seed, with_visible_core=True)
    ]
    stopped = Event()

    def stop_here(value: float, message: str = "") -> None:
        if stopped.is_set():
            raise Cancelled("The experiment was cancelled.")

    def measure(number: int) -> list[dict[str, Any]]:
        case = make_case(
            anatomy, tumours[number], thresholds, random_seed=random_seed + number, mass_effect=mass_effect
        )
        solves = budget_solves or DEFAULT_SOLVES
        return measure_case(case, anatomy, atlas, database, engine, between, solves, progress=stop_here)

    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(available_cores()) as executor:
        try:
            for number, found in enumerate(in_order(executor, measure, range(count), available_cores())):
                rows += [{"tumour": number, **row} for row in found]
                progress(0.02 + 0.98 * (number + 1) / count, f"Tumour {number + 1} of {count}")
        finally:
            stopped.set()
    result = {
        "count": count,
        "seed": random_seed,
        "mass_effect": mass_effect,
        "summary": summarise(rows),
        "cases": rows,
    }
    if out is not None:
        with staged_folder(out) as stage:
            write_json(result, stage / "cross_anatomy.json")
            _write_rows(rows, stage / "cross_anatomy.csv")
            (stage / "cross_anatomy.md").write_text(describe(result) + "\n", encoding="utf-8")
            _plot(rows, stage / "cross_anatomy.png")
    return result


def measure_case(
    case: TruthCase,
    anatomy: Atlas,
    atlas: Atlas,
    database: TumorDatabase,
    engine: Any,
    between: Registration,
    budget_solves: int,
    *,
    progress: Progress = no_progress,
) -> list[dict[str, Any]]:
    """One made-up patient through the pipeline, without and with refinement.

    Parameters
    ----------
    case : TruthCase
    anatomy : Atlas
        Where the tumour grew.
    atlas : Atlas
        The database's.
    database : TumorDatabase
    engine : Strategy
    between : Registration
        Of the anatomy's own T1 to the atlas; after the true map it is the registration without tumour, noise and
        tilt (two anatomies have no map free of error).
    budget_solves : int
    progress : Progress

    Returns
    -------
    list of dict
        A row for each variant and mode: `variant`, `mode`, `mae_brain`, `mae_near` (mean absolute error of the
        density in the brain, and within 20 mm of the whole tumour), `dice_<level>`, `seed_error_mm`,
        `length_ratio`, `rho_t_ratio`, `volume_whole_ratio`, `volume_core_ratio` (found / true), `seconds`.
    """
    from TumorQueryLib.estimates.refine import refine
    from TumorQueryLib.growth import simulate
    from TumorQueryLib.registration import register

    patient = case.patient
    started = time.perf_counter()
    own = register(patient.registration_image, atlas, tumour=patient.whole, progress=part(progress, 0.0, 0.4))
    registration_s = time.perf_counter() - started
    clean = _chained(case.truth, between)
    rows = []
    plans: list[tuple[str, str, Registration, tuple[Atlas, Registration] | None]]
    plans = [("pipeline", mode, own, None) for mode in MODES]
    plans += [("clean registration", mode, clean, None) for mode in MODES]
    plans += [("true tissue maps", "patient", own, (anatomy, case.truth))]
    for number, (variant, mode, registration, known) in enumerate(plans):
        step = part(progress, 0.4 + 0.6 * number / len(plans), 0.4 + 0.6 * (number + 1) / len(plans))
        step(0.0, f"{variant}, {mode}")
        started = time.perf_counter()
        masks = registration.masks_in_atlas(patient.core, patient.whole, atlas)
        matches = engine.query(masks, 15)
        found, frame = database.parameters(matches[0].entry), "atlas"
        if mode == "none":
            density = Volume(simulate(found, atlas), atlas.grid)
        else:
            refined = refine(
                matches,
                database,
                atlas,
                masks,
                frame=mode,
                patient=patient,
                registration=registration,
                anatomy=known,
                budget_solves=budget_solves,
                progress=step,
            )
            found, frame, density = refined.parameters[0], refined.frame, refined.density
        in_patient = (
            registration.density_in_patient(density.array, density.grid, case.density.grid)
            if frame == "atlas"
            else resample(density, case.density.grid)
        )
        seconds = time.perf_counter() - started
        scale = registration.length_scale(patient.whole) if frame == "atlas" else 1.0
        place = registration.seed_in_patient(found.seed) if frame == "atlas" else np.array(found.seed)
        rows.append(
            {
                "variant": variant,
                "mode": mode,
                **_density_errors(in_patient.array, case),
                "seed_error_mm": float(np.linalg.norm(place - case.truth.seed_in_patient(case.parameters.seed))),
                "length_ratio": found.infiltration_length
                * scale
                / (case.parameters.infiltration_length * case.truth.length_scale(patient.whole)),
                "rho_t_ratio": found.rho_t / case.parameters.rho_t,
                "seconds": seconds + (registration_s if registration is own else 0.0),
            }
        )
    return rows


def _density_errors(found: NDArray[np.float32], case: TruthCase) -> dict[str, float]:
    """How far a density lies from the true one, in the patient's brain."""
    from TumorQueryLib.geometry.regions import dice

    true = case.density.array
    grid = case.density.grid
    error = np.abs(found - true)
    near = ndimage.distance_transform_edt(~case.patient.whole.array, sampling=grid.spacing) <= NEAR
    core, whole = case.patient.core.array, case.patient.whole.array
    levels = {f"dice_{level}": dice((found > level) & case.brain, (true > level) & case.brain) for level in LEVELS}
    return {
        "mae_brain": float(error[case.brain].mean()),
        "mae_near": float(error[near & case.brain].mean()),
        **levels,
        "volume_whole_ratio": float((found > 0.2).sum() / whole.sum()),
        "volume_core_ratio": float((found > 0.6).sum() / max(1, core.sum())),
    }


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means of the errors and Dice, medians of |ratio - 1| and seed error, by variant and mode."""
    summary = []
    for variant, mode in dict.fromkeys((row["variant"], row["mode"]) for row in rows):
        chosen = [row for row in rows if (row["variant"], row["mode"]) == (variant, mode)]

        def values(name: str, chosen=chosen) -> NDArray[np.float64]:
            return np.array([row[name] for row in chosen])

        means = ("mae_brain", "mae_near", *(f"dice_{level}" for level in LEVELS), "seconds")
        ratios = ("length_ratio", "rho_t_ratio", "volume_whole_ratio", "volume_core_ratio")
        summary.append(
            {
                "variant": variant,
                "mode": mode,
                **{name: float(values(name).mean()) for name in means},
                "seed_error_mm": float(np.median(values("seed_error_mm"))),
                **{f"{name}_error": float(np.median(np.abs(values(name) - 1))) for name in ratios},
            }
        )
    return summary


def describe(result: dict[str, Any]) -> str:
    """The summary as a Markdown table."""
    header = (
        "| variant | refine | MAE brain | MAE 20 mm | "
        + " | ".join(f"Dice {level}" for level in LEVELS)
        + " | seed mm | length | rho T | whole ml | core ml | s |"
    )
    lines = [header, "|" + "---|" * (header.count("|") - 1)]
    for row in result["summary"]:
        cells = [row["variant"], row["mode"], f"{row['mae_brain']:.4f}", f"{row['mae_near']:.4f}"]
        cells += [f"{row[f'dice_{level}']:.3f}" for level in LEVELS]
        cells += [f"{row['seed_error_mm']:.1f}"]
        cells += [
            f"{100 * row[f'{name}_error']:.0f} %"
            for name in ("length_ratio", "rho_t_ratio", "volume_whole_ratio", "volume_core_ratio")
        ]
        lines.append("| " + " | ".join([*cells, f"{row['seconds']:.0f}"]) + " |")
    return "\n".join(lines)


def _random_map(anatomy: Atlas, density: NDArray[np.float32], random: np.random.Generator, push: float):
    """Patient to anatomy and back (LPS), and the brain's centre in the patient (RAS mm)."""
    import SimpleITK as sitk

    from TumorQueryLib.registration.velocity_field import exponential

    centre = anatomy.t1.grid.centre
    lattice = Grid.isotropic(90, 3.0, centre)
    velocity = np.stack([ndimage.gaussian_filter(random.standard_normal(lattice.shape), 25 / 3) for _ in range(3)])
    velocity *= WARP / 3 / np.linalg.norm(velocity, axis=0).max()
    if push:
        # Points of the patient come from nearer to the tumour's centre: what was there has been pushed out.
        inside = np.argwhere(density > 0.2)
        middle = lattice.to_index(anatomy.grid.to_ras(inside.mean(axis=0)))
        radius = (len(inside) * anatomy.grid.voxel_volume_ml * 1000 * 3 / (4 * math.pi)) ** (1 / 3) / 3
        away = np.indices(lattice.shape) - middle.reshape(3, 1, 1, 1)
        distance = np.linalg.norm(away, axis=0) / radius
        velocity -= push * away * np.exp(-(distance**2) / 2)
    velocity *= _falls_to_zero(lattice.shape)
    fields = []
    for v in (velocity, -velocity):
        millimetres = 3.0 * exponential(v.astype(np.float32)).astype(np.float64)
        lps = ras_to_lps(np.moveaxis(millimetres, 0, -1))
        image = sitk.GetImageFromArray(np.ascontiguousarray(lps.transpose(2, 1, 0, 3)), isVector=True)
        place_image(image, lattice)
        fields.append(sitk.DisplacementFieldTransform(image))
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(*np.deg2rad(random.uniform(-TILT, TILT, 3)).tolist())
    affine = sitk.AffineTransform(3)
    affine.SetCenter(ras_to_lps(centre).tolist())
    affine.SetMatrix(
        (np.array(rotation.GetMatrix()).reshape(3, 3) * (1 + random.uniform(-SCALE, SCALE, 3))).ravel().tolist()
    )
    affine.SetTranslation(random.uniform(-30, 30, 3).tolist())
    # The warp lies in the anatomy's space, whose lattice it falls to zero on; the affine brings points there.
    to_anatomy = sitk.CompositeTransform([fields[0], affine])
    to_patient = sitk.CompositeTransform([affine.GetInverse(), fields[1]])
    return to_anatomy, to_patient, ras_to_lps(to_patient.TransformPoint(ras_to_lps(centre).tolist()))


def _falls_to_zero(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """1 inside, 0 at the border: ITK's displacement fields end there."""
    window = np.ones(shape)
    for axis, n in enumerate(shape):
        ramp = np.clip(np.minimum(np.arange(n), np.arange(n)[::-1]) / 6, 0, 1)
        window *= np.expand_dims(ramp, [a for a in range(3) if a != axis])
    return window


def _painted(t1, tissue, core, whole, grid: Grid) -> dict[str, NDArray[np.float32]]:
    """T1, T1Gd and FLAIR of a brain with a tumour, white matter about 1, without noise."""
    white, grey, csf = tissue
    depth = ndimage.distance_transform_edt(core, sampling=grid.spacing)
    rim, necrosis = core & (depth <= 5), core & (depth > 5)
    oedema = whole & ~core
    flair = 0.5 * white + 0.65 * grey + 0.1 * csf
    images = {"t1": t1.copy(), "t1gd": t1.copy(), "flair": flair}
    for name, of_oedema, of_rim, of_necrosis in (
        ("t1", 0.75, 0.6, 0.4),
        ("t1gd", 0.75, 1.5, 0.4),
        ("flair", 1.1, 0.95, 0.5),
    ):
        image = images[name]
        image[oedema] = of_oedema * (image[oedema] if name != "flair" else 1.0)
        image[rim] = of_rim
        image[necrosis] = of_necrosis
    return images


def _scanned(image, brain, grid: Grid, random: np.random.Generator) -> NDArray[np.float32]:
    """With a bias field and noise, skull-stripped."""
    coarse = Grid.isotropic(64, 4.0, grid.centre)
    bias = ndimage.gaussian_filter(random.standard_normal(coarse.shape), 12.0)
    bias = resample(Volume((BIAS * bias / np.abs(bias).max()).astype(np.float32), coarse), grid).array
    noisy = image * (1 + bias) + NOISE * random.standard_normal(image.shape)
    return np.where(brain, np.maximum(400 * noisy, 1), 0).astype(np.float32)


def _chained(first: Registration, second: Registration) -> Registration:
    """Patient to the atlas of `second` by way of the anatomy of `first`."""
    import SimpleITK as sitk

    from TumorQueryLib.registration import Registration

    return Registration(
        "deformable",
        sitk.CompositeTransform([second.patient_to_atlas, first.patient_to_atlas]),
        sitk.CompositeTransform([first.atlas_to_patient, second.atlas_to_patient]),
        {},
        (),
    )


def _write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def _plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Error near the tumour, seed error and length ratio of every tumour, by variant and mode."""
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys((row["variant"], row["mode"]) for row in rows))
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, (name, title) in zip(
        figure.subplots(1, 3),
        (
            ("mae_near", "mean |density error| within 20 mm"),
            ("seed_error_mm", "seed error (mm)"),
            ("length_ratio", "infiltration length, found / true"),
        ),
    ):
        values = [[row[name] for row in rows if (row["variant"], row["mode"]) == group] for group in groups]
        axes.boxplot(values)
        axes.set_xticklabels([f"{mode}\n{variant}" for variant, mode in groups], rotation=90, fontsize="x-small")
        axes.set_title(title, fontsize="small")
    figure.savefig(path, dpi=120)
