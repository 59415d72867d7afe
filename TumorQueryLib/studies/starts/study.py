"""The study of the starts: the same refinement from the matches, from the core's centre, and from both."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from TumorQueryLib.anatomy.carried import carried_anatomy
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.method import DEFAULT_SOLVES
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.base.timing import Stopwatch
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.estimates.refine import START_KINDS, refine
from TumorQueryLib.estimates.search import Solve
from TumorQueryLib.studies.cross_anatomy.errors import density_errors
from TumorQueryLib.studies.known_truth.run import run_studies
from TumorQueryLib.studies.known_truth.setting import Conditions
from TumorQueryLib.studies.known_truth.tables import write_rows
from TumorQueryLib.studies.known_truth.tumour import Tumour
from TumorQueryLib.studies.starts.tables import as_markdown, summarise

#: Made-up tumours, where no number is named.
DEFAULT_COUNT = 8
#: A search has reached its answer once its Dice sum is within this of the final one.
REACHED = 0.005


@dataclass(frozen=True)
class StartsStudy:
    """The study "starts" of a run (see `known_truth.run.Study`).

    Parameters
    ----------
    count : int
        Number of made-up tumours; 0 where only a cohort's patients are looked at.
    """

    count: int
    name = "starts"
    takes_patients = True
    takes_sample = False
    needs_clean_registration = False

    def choices(self) -> dict[str, Any]:
        """Nothing but the run's conditions."""
        return {}

    def measure(self, tumour: Tumour) -> list[dict[str, Any]]:
        """A row for each kind of starts, see `measure_starts`."""
        return measure_starts(tumour)

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """See `tables.summarise`."""
        return {"summary": summarise(rows)}

    def write(self, result: Mapping[str, Any], folder: Path) -> None:
        """starts.csv and starts.md."""
        write_rows(result["cases"], folder / "starts.csv")
        (folder / "starts.md").write_text(as_markdown(result) + "\n", encoding="utf-8")


def run_starts(
    count: int,
    database: TumorDatabase,
    out: str | os.PathLike | None = None,
    *,
    cohort: str | os.PathLike | None = None,
    random_seed: int = 0,
    mass_effect: bool = False,
    outline_error_mm: float = 0.0,
    budget_solves: int = DEFAULT_SOLVES,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Refine patients from the database's matches, from the core's centre, and from both.

    Parameters
    ----------
    count : int
        Number of made-up tumours: the first ones of `run_cross_anatomy` with the same random seed. 0 with a cohort.
    database : TumorDatabase
        In SRI24; another, larger one in a second run tells what its size changes.
    out : path, optional
        Folder for starts.json, starts.csv (a row for each tumour and kind of starts) and starts.md. An interrupted
        run is taken up there by the same call.
    cohort : path, optional
        A CSV file of real patients (see `inputs.cohort_file.read_cohort`).
    random_seed, mass_effect, outline_error_mm, budget_solves
        See `run_cross_anatomy`.
    progress : Progress

    Returns
    -------
    dict
        `cases`: a list of rows, see `measure_starts`; `summary`: see `tables.summarise`; the conditions.

    Raises
    ------
    InputError
        When there is no tumour to look at, the cohort file is not accepted, or `out` holds another interrupted run.
    DatabaseError
        When the database is not of SRI24.
    """
    study = StartsStudy(count)
    results = run_studies(
        [study],
        database,
        out,
        conditions=Conditions(random_seed, mass_effect, outline_error_mm),
        cohort=cohort,
        budget_solves=budget_solves,
        progress=progress,
    )
    return results[study.name]


def measure_starts(tumour: Tumour) -> list[dict[str, Any]]:
    """One patient refined from each kind of starts, in the patient's anatomy and with one focus.

    Parameters
    ----------
    tumour : Tumour

    Returns
    -------
    list of dict
        Of each of `refine.START_KINDS`: `kind` ("made up" or "patient"), `starts`; `dice_core`, `dice_whole` and
        `dice_sum` on the T1Gd image's grid; `score`, the Dice sum in the anatomy, which the search maximises;
        `mae_near` (None without a truth); `length_mm` in the patient, `rho_t`; wall `seconds` and `solves` of the
        search, and how many of them it took until the score was within `REACHED` of the final one (the seconds are
        shared out evenly over the solves: those of two threads overlap, so no clock tells them apart).

    Raises
    ------
    InputError
        When nothing of the tumour lies in the atlas's brain.
    """
    way, thresholds = tumour.way, tumour.setting.thresholds
    anatomy, target = carried_anatomy(tumour.setting.atlas, way.space, way.patient.core, way.patient.whole)
    if not way.query.whole.any() or not target.whole.any():
        raise InputError("The tumour lies outside the atlas's brain, so nothing was refined.")
    rows = []
    for starts in START_KINDS:
        with Stopwatch() as taken:
            # Two foci are searched by halves, whose scores are not those of the whole.
            refinement = refine(
                way.match,
                way.ranked,
                anatomy,
                target,
                thresholds,
                solves=tumour.setting.method.refine_solves,
                foci="1",
                starts=starts,
                progress=tumour.progress,
            )
        estimate = Estimate.of(
            "refined",
            anatomy,
            refinement.parameters,
            refinement.density,
            way.patient.regions_on_t1gd,
            target,
            thresholds,
        )
        fit, path = estimate.fit, refinement.path
        errors = None if tumour.phantom is None else density_errors(estimate.in_patient.array, tumour.phantom)
        reached = solves_to_reach(path)
        rows.append(
            {
                "kind": "patient" if tumour.phantom is None else "made up",
                "starts": starts,
                "dice_core": fit.dice_core,
                "dice_whole": fit.dice_whole,
                "dice_sum": fit.dice_sum,
                "score": max(solve.score for solve in path),
                "mae_near": None if errors is None else errors["mae_near"],
                "length_mm": estimate.infiltration_lengths_mm[0],
                "rho_t": estimate.parameters[0].rho_t,
                "seconds": taken.wall,
                "solves": len(path),
                "solves_to_reach": reached,
                "seconds_to_reach": taken.wall * reached / len(path),
            }
        )
    return rows


def solves_to_reach(path: Sequence[Solve]) -> int:
    """Solves of a search until its score is within `REACHED` of the best one."""
    aim = max(solve.score for solve in path) - REACHED
    return next(number for number, solve in enumerate(path, 1) if solve.score >= aim)
