"""The coverage of a cohort's recurrences: a row for each patient, and what the rows come to, patient by patient."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from TumorQueryLib.base.errors import InputError, TumorQueryError
from TumorQueryLib.base.files import holds_json, output_errors, refuse_to_replace, staged_folder, write_json
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.base.version import __version__
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.inputs.cohort_file import read_table
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.inputs.labels import ROUNDING
from TumorQueryLib.studies.recurrence.coverage import LABELS, MARGIN, RECURRENCES, Coverage, compare_plans
from TumorQueryLib.studies.strategies.summary import RESAMPLES, bootstrap_interval

NAME = "recurrence"
COLUMNS = ("patient", "segmentation", "recurrence", "density", "brain_mask", "t1gd")
NEEDED = (("patient",), ("segmentation",), ("recurrence",), ("density",), ("brain_mask", "t1gd"))
#: Of fewer patients there is no interval and no p.
LEAST_PATIENTS = 5
#: ml; what is above a T1Gd's lowest value and larger is no brain.
LARGEST_BRAIN_ML = 2200.0
CASE_COLUMNS = (
    "patient",
    *(f"{plan}_{name}" for name in RECURRENCES for plan in ("standard", "model")),
    *(f"{name}_ml" for name in RECURRENCES),
    "plan_ml",
    "common",
)


def evaluate_recurrence(
    cohort: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    random_seed: int = 0,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Score the densities of a cohort by the recurrences that came.

    Parameters
    ----------
    cohort : path
        A CSV file with the columns `patient`, `segmentation` and `recurrence` (label maps of PREDICT-GBM on one grid:
        before the operation, and at the follow-up), `density`, and `brain_mask` or `t1gd` (without skull: what is
        above its lowest value is brain). Paths are relative to the file.
    out : path, optional
        Folder for recurrence.json, recurrence.csv and recurrence.md.
    random_seed : int
        Of the bootstrap.
    progress : Progress

    Returns
    -------
    dict
        As recurrence.json holds it: `patients` (their number), `summary` (see `summarise`), `cases`, and `left_out`,
        the patients that could not be scored, and why.

    Raises
    ------
    InputError
        When the file is not accepted, or no patient of it can be scored.
    OutputError
        When a result would replace one of these files, or a file that no run wrote.
    """
    path = Path(cohort)
    rows = read_table(path, COLUMNS, NEEDED)
    if out is not None:
        results = [Path(out) / f"{NAME}.{ending}" for ending in ("json", "csv", "md")]
        read = [path, *(path.parent / file for _, _, files in rows for file in files.values())]
        refuse_to_replace(results, read, lambda _: holds_json(results[0], ("margin_mm", "left_out", "cases")))
    cases: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    for number, (line, patient, files) in enumerate(rows):
        progress(number / len(rows), f"{number} of {len(rows)} patients")
        try:
            cases.append(case_of(patient, _score({name: path.parent / file for name, file in files.items()}, line)))
        except TumorQueryError as error:
            left_out.append({"patient": patient, "error": str(error)})
    if not cases:
        raise InputError(f"No patient of {path} could be scored; {left_out[0]['patient']}: {left_out[0]['error']}")
    result = {
        "version": __version__,
        "margin_mm": MARGIN,
        "random_seed": random_seed,
        "resamples": RESAMPLES,
        "patients": len(cases),
        "summary": summarise(cases, random_seed),
        "left_out": left_out,
        "cases": cases,
    }
    if out is not None:
        with staged_folder(out) as stage, output_errors(Path(out)):
            write_json(result, stage / f"{NAME}.json")
            (stage / f"{NAME}.md").write_text(as_markdown(result), encoding="utf-8")
            with open(stage / f"{NAME}.csv", "w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, CASE_COLUMNS)
                writer.writeheader()
                writer.writerows(cases)
    progress(1.0, f"{len(rows)} of {len(rows)} patients")
    return result


def _score(files: Mapping[str, Path], line: int) -> Coverage:
    """The coverage of one row."""
    missing = [one[0] for one in NEEDED[1:] if not set(one) & set(files)]
    if missing:
        raise InputError(f"Line {line} names no {' and no '.join(missing)}.")
    segmentation = _labels(files["segmentation"], "segmentation")
    recurrence = _labels(files["recurrence"], "recurrence")
    density = read_image_file(files["density"], "density").volume
    role = "brain_mask" if "brain_mask" in files else "t1gd"
    name = "brain mask" if role == "brain_mask" else "T1Gd"
    image = read_image_file(files[role], name, is_mask=role == "brain_mask").volume
    if not image.grid.matches(segmentation.grid):
        raise InputError(f"The {name} is on another grid than the segmentation; bring both to one.")
    least = 0.5 if role == "brain_mask" else np.nanmin(image.array)
    brain = image.array > least
    volume = np.count_nonzero(brain) * image.grid.voxel_volume_ml
    if role == "t1gd" and volume > LARGEST_BRAIN_ML:
        raise InputError(
            f"What is above the lowest value of the T1Gd has {volume:,.0f} ml, which is no brain: give an image "
            "without skull and background, or a brain_mask."
        )
    return compare_plans(segmentation, recurrence, density, brain)


def _labels(path: Path, name: str) -> Volume:
    """A label map of PREDICT-GBM, uint8."""
    volume = read_image_file(path, name, is_mask=True).volume
    values = np.unique(volume.array)
    rounded = np.rint(values)
    if not (np.isin(rounded, LABELS).all() and np.abs(values - rounded).max() <= ROUNDING):
        odd = ", ".join(f"{value:g}" for value in values[~np.isin(values, LABELS)][:5])
        raise InputError(
            f"The {name} holds the values {odd}; PREDICT-GBM's labels are 1 necrosis, 2 oedema, 3 enhancing and "
            "4 resection cavity."
        )
    return Volume(np.rint(volume.array).astype(np.uint8), volume.grid)


def case_of(patient: str, coverage: Coverage) -> dict[str, Any]:
    """A patient's row."""
    found = asdict(coverage)
    return {
        "patient": patient,
        **{f"{plan}_{name}": found[plan][name] for name in RECURRENCES for plan in ("standard", "model")},
        **{f"{name}_ml": found["recurrence_ml"][name] for name in RECURRENCES},
        "plan_ml": found["plan_ml"],
        "common": found["common"],
    }


def summarise(cases: Sequence[Mapping[str, Any]], random_seed: int = 0) -> dict[str, dict[str, Any]]:
    """What the patients' rows come to, by recurrence of `RECURRENCES`.

    Returns
    -------
    dict
        `standard` and `model`, the mean coverage, patients without that recurrence among them (their coverage is 1;
        how many there are says `without`); `difference`, the mean of model - standard, with `interval`, its 95 %
        interval by the bootstrap over patients (percentiles); `better`, `equal` and `worse`, patients by the sign of
        theirs; `p`, Wilcoxon's signed-rank test of the pairs that differ, two-sided (None where none does). Of fewer
        than `LEAST_PATIENTS` patients interval and p are None.
    """
    enough = len(cases) >= LEAST_PATIENTS
    summary = {}
    for name in RECURRENCES:
        standard, model = (np.array([case[f"{plan}_{name}"] for case in cases]) for plan in ("standard", "model"))
        difference = model - standard
        summary[name] = {
            "standard": float(standard.mean()),
            "model": float(model.mean()),
            "without": sum(case[f"{name}_ml"] == 0 for case in cases),
            "difference": float(difference.mean()),
            "interval": bootstrap_interval(difference, random_seed) if enough else None,
            "better": int((difference > 0).sum()),
            "equal": int((difference == 0).sum()),
            "worse": int((difference < 0).sum()),
            "p": float(stats.wilcoxon(difference[difference != 0]).pvalue) if enough and difference.any() else None,
        }
    return summary


def as_markdown(result: Mapping[str, Any]) -> str:
    """The summary as a table."""
    lines = [
        f"{result['patients']} patients; the standard plan is the core and {result['margin_mm']:g} mm around it within "
        "the brain, the model's has as many voxels. Coverage in %, its difference with the 95 % interval of the "
        "bootstrap over patients, p by Wilcoxon's signed-rank test.",
        "",
        "| recurrence | standard | model | model - standard | better, equal, worse | p | patients without it |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in result["summary"].items():
        interval = (
            "" if row["interval"] is None else " ({:+.1f} to {:+.1f})".format(*(100 * x for x in row["interval"]))
        )
        lines.append(
            f"| {name} | {100 * row['standard']:.1f} | {100 * row['model']:.1f} | {100 * row['difference']:+.1f}"
            f"{interval} | {row['better']}, {row['equal']}, {row['worse']} | "
            f"{'-' if row['p'] is None else format(row['p'], '.2g')} | {row['without']} |"
        )
    if result["patients"] < LEAST_PATIENTS:
        lines += ["", f"Fewer than {LEAST_PATIENTS} patients: there is no interval and no p."]
    for one in result["left_out"]:
        lines += ["", f"Left out: {one['patient']}. {one['error']}"]
    return "\n".join(lines) + "\n"
