"""What the studies query with: patients of a cohort in the atlas, and synthetic tumours that are in no database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import TumorQueryError
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.database import TumorDatabase, sample_synthetic
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.inference import place_patient
from TumorQueryLib.inputs.cohort_file import CohortRow, read_cohort
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.registration import Registration

#: Random seed of the synthetic queries in the documentation's tables.
SYNTHETIC_SEED = 2022

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Case:
    """A query of a study.

    Parameters
    ----------
    name : str
    masks : TumorMasks
        On the atlas grid.
    patient : Patient, optional
        Where there are images to show.
    registration : Registration, optional
        The patient's.
    """

    name: str
    masks: TumorMasks
    patient: Patient | None = None
    registration: Registration | None = None


@dataclass(frozen=True)
class LeftOut:
    """A patient of a cohort who cannot be used.

    Parameters
    ----------
    name : str
    reason : str
        One sentence for the user.
    """

    name: str
    reason: str


def cohort_cases(
    cohort: str | os.PathLike, atlas: Atlas, mode: str = "deformable", *, progress: Progress = no_progress
) -> Iterator[Case | LeftOut]:
    """Patients of a cohort file, aligned and registered to the atlas, in the file's order.

    Parameters
    ----------
    cohort : path
        A CSV file (see `inputs.cohort_file.read_cohort`).
    atlas : Atlas
    mode : {"deformable", "affine", "none"}
        How the patients are registered.
    progress : Progress

    Yields
    ------
    Case or LeftOut
        One for each row.

    Raises
    ------
    InputError
        When the cohort file is not what is accepted.
    """

    def case_of(name: str, patient: Patient, report: Progress) -> Case:
        placed = place_patient(patient, atlas, mode, progress=report)
        return Case(name, placed.query, placed.patient, placed.registration)

    return of_each_patient(read_cohort(cohort), case_of, progress=progress)


def of_each_patient(
    rows: Sequence[CohortRow], work: Callable[[str, Patient, Progress], Result], *, progress: Progress = no_progress
) -> Iterator[Result | LeftOut]:
    """What `work` makes of each patient of a cohort; one that cannot be read or used never stops the rest.

    Parameters
    ----------
    rows : sequence of CohortRow
    work : callable
        Takes the patient's name, the patient, and a progress.
    progress : Progress

    Yields
    ------
    object or LeftOut
        One for each row.
    """
    for number, row in enumerate(rows):
        report = part(progress, number / len(rows), (number + 1) / len(rows))
        report(0.0, f"Registering {row.patient}")
        try:
            made = work(row.patient, row.load(), report)
        except TumorQueryError as error:
            yield LeftOut(row.patient, str(error))
        else:
            yield made


def synthetic_cases(
    database: TumorDatabase,
    atlas: Atlas,
    count: int,
    *,
    random_seed: int = SYNTHETIC_SEED,
    progress: Progress = no_progress,
) -> Iterator[Case]:
    """Tumours of the database's prior that are in no database, with a core of at least 0.2 ml."""
    tumours = sample_synthetic(
        atlas,
        count,
        random_seed=random_seed,
        sampling=database.attributes["prior"]["name"],
        with_visible_core=True,
        progress=progress,
    )
    for number, tumour in enumerate(tumours):
        yield Case(f"synthetic {number}", tumour.masks)
