"""A result as DICOM objects in the space, patient and study of the T1Gd series that it was made from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.base.files import output_errors, staged_folder
from TumorQueryLib.base.method import DEFAULT_LEVEL
from TumorQueryLib.base.plan_choices import SAME_VOLUME, PlanChoices
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.inputs.dicom.own_objects import is_ours
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.results.dicom.images import import_highdicom, make_parametric_map, make_segmentation
from TumorQueryLib.results.dicom.regions import (
    ABOVE,
    CAVITY,
    CELL_DENSITY,
    CELL_DENSITY_DEVIATION,
    CORE,
    PLAN,
    WHOLE,
    Region,
)
from TumorQueryLib.results.dicom.source import SourceSeries, read_source_series
from TumorQueryLib.results.dicom.structures import make_structure_set
from TumorQueryLib.results.files import PLAN_CAVITY, SavedResult, read_result
from TumorQueryLib.results.folder import EXPORT_FILES, EXPORT_FOLDER, finish_leftovers, written_by_a_run
from TumorQueryLib.results.plan import mask_sum
from TumorQueryLib.results.plan_masks import without_small_parts

#: Numbers of the series that are written, out of the way of a scanner's.
SERIES_NUMBERS = {"segmentation": 9601, "density": 9602, "density_sd": 9603, "structures": 9604}
#: What is said of a plan whose voxels are not those that were made.
EDITED = "Edited by hand after TumorQuery made it"
RED, YELLOW, GREEN, BLUE, GREY = (220, 40, 40), (240, 200, 40), (60, 180, 75), (40, 110, 220), (150, 150, 150)
#: Of further plans and of the levels of density, from the lowest.
OTHER_PLANS = ((150, 80, 200), (30, 170, 170), (200, 100, 160))
LEVEL_COLOURS = ((120, 170, 220), (250, 170, 90), (200, 80, 120))


@dataclass(frozen=True)
class DicomExport:
    """What was written.

    Parameters
    ----------
    files : dict of str to Path
        By what they are: "segmentation", "density", and as far as there are any "density_sd" and "structures".
    notes : tuple of str
        What a user may miss, and why it is not there.
    """

    files: dict[str, Path]
    notes: tuple[str, ...]


def export_dicom(
    result: SavedResult | str | os.PathLike,
    series: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    t1gd: str | os.PathLike | None = None,
    progress: Progress = no_progress,
) -> DicomExport:
    """Write a result as DICOM objects: segmentation, Parametric Maps and, for a planning system, a structure set.

    They lie in the frame of reference of the T1Gd series and bear its patient and study. The segmentation
    (`segmentation.dcm`) holds the tumour as it was given, regions above levels of the density and the plans; the maps
    (`density.dcm`, `density_sd.dcm`) hold the density and, where it was computed, its standard deviation; the
    structure set (`structures.dcm`) holds the core as GTV and the plans as CTVs. The resection cavity is in both, where
    there is one.

    Parameters
    ----------
    result : SavedResult or path
        A result's folder.
    series : path, or sequence of path
        The T1Gd series that it was made from: its folder, one of its files, or all of them.
    out : path
        Folder of the objects; all of them appear there or none. An earlier export in it is replaced.
    t1gd : path, optional
        Where the result was made from an image file that holds this series (as NIfTI or NRRD, without its skull
        perhaps), that file.
    progress : Progress

    Returns
    -------
    DicomExport

    Raises
    ------
    InputError
        When the result was not made from that series, or it is no DICOM series.
    MissingDependencyError
        When highdicom is not installed.
    OutputError
        When `out` cannot be written, or holds the series, a result, or files of these names that no export wrote.
    """
    import_highdicom()
    if not isinstance(result, SavedResult):
        finish_leftovers(Path(result))
        result = read_result(result)
    progress(0.0, "Reading the series")
    source = read_source_series(series)
    _check_made_from(result, source, t1gd)
    out = Path(out)
    _check_folder(out, source)
    on_series = _Ordered(result, source)
    drawn = on_series.array(result.segmentation)
    core = Region("Tumour core", drawn == 1, CORE, RED, by_model=False)
    whole = Region("Whole tumour", drawn > 0, WHOLE, YELLOW, by_model=False)
    held = result.plan_cavity
    cavity = (
        [] if held is None else [Region("Resection cavity", on_series.array(held) != 0, CAVITY, GREY, by_model=False)]
    )
    density = on_series.array(result.density)
    plans = _plans(result, on_series)
    made: dict[str, Dataset] = {}

    def number(name: str) -> int:
        return SERIES_NUMBERS[name]

    progress(0.2, "Making the DICOM segmentation")
    regions = [core, whole, *cavity, *_levels(result, density), *plans]
    made["segmentation"] = make_segmentation(source, regions, number=number("segmentation"))
    progress(0.5, "Making the DICOM maps")
    made["density"] = make_parametric_map(
        source, density, CELL_DENSITY, "TumorQuery tumour cell density", number=number("density")
    )
    if "density_sd" in result.content["outputs"]:
        deviation = on_series.array(result.uncertainty_map("sd"))
        text = "TumorQuery standard deviation of the density"
        made["density_sd"] = make_parametric_map(
            source, deviation, CELL_DENSITY_DEVIATION, text, number=number("density_sd")
        )
    progress(0.7, "Making the DICOM structure set")
    gross = Region("GTV", core.mask, CORE, RED, by_model=False)
    structures = [region for region in (gross, *cavity, *plans) if region.mask.any()]
    if structures:
        made["structures"] = make_structure_set(source, structures, number=number("structures"))
    progress(0.9, "Writing the DICOM objects")
    _write(made, out)
    progress(1.0, "Done")
    return DicomExport({name: out / EXPORT_FILES[name] for name in made}, _notes(result, core, plans, made))


def check_exportable(series: str | os.PathLike | Sequence[str | os.PathLike]) -> None:
    """Refuse what a result could not be exported to, before it is made: see `export_dicom`."""
    import_highdicom()
    read_source_series(series)


class _Ordered:
    """The volumes of a result as the series orders its voxels."""

    def __init__(self, result: SavedResult, source: SourceSeries) -> None:
        self._folder, self._source = result.folder, source

    def array(self, volume: Volume) -> NDArray[Any]:
        """The voxels of a volume [i, j, k] on the series' grid."""
        array = self._source.on_grid(volume)
        if array is None:
            raise InputError(
                f"The result in {self._folder} lies on another grid than the T1Gd series, so it was not made from it; "
                "give the series of the T1Gd that the inference was given."
            )
        return array


def _check_made_from(result: SavedResult, source: SourceSeries, t1gd: str | os.PathLike | None) -> None:
    """Refuse a series that is not the T1Gd that a result was made from."""
    inputs = [one for one in result.content["inputs"] if one["role"] == "t1gd"]
    if t1gd is None:
        if source.image.sha256 not in [one["sha256"] for one in inputs]:
            raise InputError(
                f"The result in {result.folder} was not made from this T1Gd series: its files are others (by their "
                "SHA-256); give the series that the inference was given or, where that was an image file made from "
                "the series, that file too (--t1gd F)."
            )
        return
    file = read_image_file(Path(t1gd), "T1Gd")
    if file.sha256 not in [one["sha256"] for one in inputs]:
        raise InputError(
            f"The result in {result.folder} was not made from {t1gd} (by its SHA-256); give the T1Gd file that the "
            "inference was given."
        )
    array = source.on_grid(file.volume)
    given = source.image.volume.array
    if array is None:
        raise InputError(
            f"{t1gd} does not lie on the grid of the T1Gd series: it was resampled, or is of another series; give the "
            "series that it was made from."
        )
    # Without its skull an image is 0 there, and rounding may have changed it by little.
    kept = array != 0
    if not kept.any() or not np.allclose(array[kept], given[kept], rtol=1e-4, atol=1e-4 * float(np.abs(given).max())):
        raise InputError(
            f"{t1gd} holds other values than the T1Gd series; give the series that it was made from, and an image "
            "that was not scaled since."
        )


def _check_folder(out: Path, source: SourceSeries) -> None:
    """Refuse a folder whose files would be replaced, or mixed with the series or with a result."""
    folders = {path.parent.resolve() for path, _ in source.image.slices}
    if out.resolve() in folders:
        raise OutputError(f"The output folder {out} is the folder of the series itself; name another folder.")
    with output_errors(out):
        if written_by_a_run(out):
            raise OutputError(
                f"The output folder {out} holds a result, and new plans there would leave the objects of the earlier "
                f"ones beside them; name another folder, such as {out / EXPORT_FOLDER}, which goes with its result."
            )
        foreign = [name for name in EXPORT_FILES.values() if os.path.lexists(out / name) and not is_ours(out / name)]
    if foreign:
        raise OutputError(
            f"The output folder {out} holds {', '.join(foreign)}, which no export of TumorQuery wrote and this one "
            "would replace; name another folder, or move that away."
        )


def _levels(result: SavedResult, density: NDArray[np.float32]) -> list[Region]:
    """What exceeds levels of the density: those of core and whole tumour, and the one that volumes are given above."""
    made_in, uncertainty = result.content["database"], result.content["uncertainty"]
    lowest = DEFAULT_LEVEL if uncertainty is None else uncertainty["level"]
    levels = sorted({lowest, made_in["threshold_whole"], made_in["threshold_core"]})
    return [
        Region(f"Density above {level:g}", density > level, ABOVE, colour)
        for level, colour in zip(levels, LEVEL_COLOURS)
    ]


def _plans(result: SavedResult, on_series: _Ordered) -> list[Region]:
    """The plans of a result as target volumes."""
    if not result.plans:
        return []
    told = result.content["plan"]
    colours, rules = {"standard": BLUE, "model": GREEN}, _rules(told, result.plans)
    others = iter(OTHER_PLANS * 3)
    made = told.get("mask_sha256", {})
    regions = []
    for name, plan in result.plans.items():
        edited = name in made and mask_sum(plan) != made[name]
        regions.append(
            Region(
                f"CTV {name}",
                on_series.array(plan) != 0,
                PLAN,
                colours[name] if name in colours else next(others),
                description=EDITED if edited else rules.get(name, ""),
                edited=edited,
            )
        )
    return regions


def _rules(plan: Mapping[str, Any], masks: Mapping[str, Volume]) -> dict[str, str]:
    """How each of the plans was made, in words, by its name; `plan` is what result.json says of them."""
    choices = PlanChoices(**plan["choices"])
    if choices.above is not None:
        model = f"All that is denser than {choices.above:g}"
    elif choices.volume == SAME_VOLUME:
        model = "The densest voxels, as large as the standard plan"
    else:
        model = f"The densest {choices.volume:g} ml"
    if choices.smallest_part_ml and "model" in masks and not _has_parts_below(choices.smallest_part_ml, masks["model"]):
        model += f", without parts below {choices.smallest_part_ml:g} ml"
    probable = (
        f"The smallest that holds {100 * choices.share:g} % of the modelled cells with a probability of "
        f"{100 * choices.probability:g} %"
    )
    return {"standard": plan["standard"]["title"], "model": model, "probable": probable}


def _cavity_ml(result: SavedResult) -> float:
    held = result.plan_cavity
    return 0.0 if held is None else float(np.count_nonzero(held.array) * held.grid.voxel_volume_ml)


def _has_parts_below(volume_ml: float, mask: Volume) -> bool:
    """Whether a mask has parts of less than a volume: where there is nothing larger, a plan is made of those."""
    voxels = int(np.ceil(volume_ml / mask.grid.voxel_volume_ml - 1e-6))
    return not np.array_equal(without_small_parts(mask.array, voxels), mask.array)


def _write(made: dict[str, Dataset], out: Path) -> None:
    """Write the objects, all or none, in the place of an earlier export."""
    # What this one does not replace would be of another result.
    with staged_folder(out, replacing=EXPORT_FILES.values()) as stage, output_errors(out):
        for name, dataset in made.items():
            with open(stage / EXPORT_FILES[name], "wb") as file:
                dataset.save_as(file, enforce_file_format=True)
                file.flush()
                os.fsync(file.fileno())


def _notes(result: SavedResult, core: Region, plans: Sequence[Region], made: dict[str, Dataset]) -> tuple[str, ...]:
    """What is not there that a user may look for."""
    notes = []
    if not plans:
        notes.append("The result holds no plans, so there are no CTVs; make them with `tumorquery plan`, then export.")
    elif abs(_cavity_ml(result) - result.content["plan"]["cavity_ml"]) > 1e-3:
        notes.append("The plans were made around another resection cavity, which is in none of the objects.")
    elif result.cavity is not None and PLAN_CAVITY in result.content["outputs"]:
        notes.append(
            "The resection cavity is the one that the plans were made around, which is not the one of the inference."
        )
    if result.content["uncertainty"] is not None and "density_sd" not in made:
        notes.append("The standard deviation of the density is no longer there, so there is no map of it.")
    if not core.mask.any():
        notes.append("The segmentation has no core, so there is no GTV.")
    if "structures" not in made:
        notes.append("There is nothing to contour, so no structure set was written.")
    notes += [f"The plan {plan.name.removeprefix('CTV ')} is empty." for plan in plans if not plan.mask.any()]
    return tuple(notes)
