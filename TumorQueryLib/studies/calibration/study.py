"""The calibration study: the uncertainty of made-up tumours against their truth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from TumorQueryLib.base.method import DEFAULT_SOLVES
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.studies.calibration.coverage import coverage_of
from TumorQueryLib.studies.calibration.tables import as_markdown, draw, summarise
from TumorQueryLib.studies.known_truth.run import run_studies
from TumorQueryLib.studies.known_truth.setting import Conditions
from TumorQueryLib.studies.known_truth.tables import write_rows
from TumorQueryLib.studies.known_truth.tumour import Tumour


@dataclass(frozen=True)
class Calibration:
    """The study "calibration" of a run (see `known_truth.run.Study`).

    Parameters
    ----------
    count : int
        Number of tumours.
    """

    count: int
    name = "calibration"
    takes_patients = False
    takes_sample = False
    needs_clean_registration = False

    def choices(self) -> dict[str, Any]:
        """Nothing but the run's conditions."""
        return {}

    def measure(self, tumour: Tumour) -> list[dict[str, Any]]:
        """The rows of `coverage.coverage_of` for the pipeline's assimilated density, with the `seconds` it took."""
        if tumour.phantom is None:
            raise ValueError("The truth of a real patient is not known.")
        uncertainty = tumour.way.uncertainty
        seconds = tumour.way.uncertainty_seconds
        return [{**row, "seconds": seconds} for row in coverage_of(uncertainty, tumour.phantom)]

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """See `tables.summarise`."""
        return {"summary": summarise(rows)}

    def write(self, result: Mapping[str, Any], folder: Path) -> None:
        """calibration.csv, calibration.md and calibration.png."""
        write_rows(result["cases"], folder / "calibration.csv")
        (folder / "calibration.md").write_text(as_markdown(result) + "\n", encoding="utf-8")
        draw(result, folder / "calibration.png")


def run_calibration(
    count: int,
    database: TumorDatabase,
    out: str | os.PathLike | None = None,
    *,
    random_seed: int = 0,
    mass_effect: bool = False,
    outline_error_mm: float = 0.0,
    budget_solves: int = DEFAULT_SOLVES,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Compare the uncertainty of made-up patients of MNI152 with their truth.

    Parameters
    ----------
    count : int
        Number of tumours: the first ones of `run_cross_anatomy` with the same random seed.
    database : TumorDatabase
        In SRI24.
    out : path, optional
        Folder for calibration.json, calibration.csv (a row for each tumour and confidence), calibration.md and
        calibration.png. An interrupted run is taken up there by the same call.
    random_seed, mass_effect, outline_error_mm, budget_solves
        See `run_cross_anatomy`.
    progress : Progress

    Returns
    -------
    dict
        `cases`: a list of rows, see `coverage.coverage_of`; `summary`: see `tables.summarise`; the conditions.

    Raises
    ------
    InputError
        When `count` is below 1, or `out` holds another interrupted run.
    DatabaseError
        When the database is not of SRI24.
    """
    study = Calibration(count)
    conditions = Conditions(random_seed, mass_effect, outline_error_mm)
    results = run_studies([study], database, out, conditions=conditions, budget_solves=budget_solves, progress=progress)
    return results[study.name]
