"""The experiment: made-up patients through the pipeline, and what each step of it costs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.method import DEFAULT_SOLVES
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.geometry.transforms import SpaceMap, in_turn
from TumorQueryLib.studies.cross_anatomy.errors import density_errors
from TumorQueryLib.studies.cross_anatomy.tables import as_markdown, draw, summarise
from TumorQueryLib.studies.known_truth.run import run_studies
from TumorQueryLib.studies.known_truth.setting import Conditions
from TumorQueryLib.studies.known_truth.tables import write_rows
from TumorQueryLib.studies.known_truth.tumour import MODES, Tumour, Way
from TumorQueryLib.studies.phantom import Phantom

#: Beside the pipeline's own registration and the carried tissue: the patient's own tissue (`anatomy.own`); a
#: registration from MNI152's clean T1, without tumour, noise or tilt; and the refinement in the patient's anatomy with
#: the true tissue maps instead of SRI24's.
PIPELINE, OWN_TISSUE, CLEAN, TRUE_MAPS = "pipeline", "own tissue", "clean registration", "true tissue maps"
VARIANTS = ("all", "pipeline")


@dataclass(frozen=True)
class CrossAnatomy:
    """The study "cross_anatomy" of a run (see `known_truth.run.Study`).

    Parameters
    ----------
    count : int
        Number of tumours.
    variants : {"all", "pipeline"}
        Whether the clean registration and the true tissue maps are measured too, which cost more than all else.

    Raises
    ------
    InputError
        When there are no such variants.
    """

    count: int
    variants: str = "all"
    name = "cross_anatomy"
    takes_patients = False
    takes_sample = False

    def __post_init__(self) -> None:
        if self.variants not in VARIANTS:
            raise InputError(f"There are no variants {self.variants!r}; choose one of {', '.join(VARIANTS)}.")

    @property
    def needs_clean_registration(self) -> bool:
        """Whether it looks at `Setting.between`."""
        return self.variants == "all"

    def choices(self) -> dict[str, Any]:
        """All that the rows depend on beside the run's conditions."""
        return {"variants": self.variants}

    def measure(self, tumour: Tumour) -> list[dict[str, Any]]:
        """The rows of a made-up tumour, see `measure_tumour`."""
        return measure_tumour(tumour, self.variants)

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Means over the tumours, see `tables.summarise`."""
        return {"summary": summarise(rows)}

    def write(self, result: Mapping[str, Any], folder: Path) -> None:
        """cross_anatomy.csv, cross_anatomy.md and cross_anatomy.png."""
        write_rows(result["cases"], folder / "cross_anatomy.csv")
        (folder / "cross_anatomy.md").write_text(as_markdown(result) + "\n", encoding="utf-8")
        draw(result["cases"], folder / "cross_anatomy.png")


def run_cross_anatomy(
    count: int,
    database: TumorDatabase,
    out: str | os.PathLike | None = None,
    *,
    random_seed: int = 0,
    mass_effect: bool = False,
    outline_error_mm: float = 0.0,
    variants: str = "all",
    budget_solves: int = DEFAULT_SOLVES,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Measure the pipeline on made-up patients of MNI152.

    Parameters
    ----------
    count : int
        Number of tumours, all with a visible core.
    database : TumorDatabase
        In SRI24.
    out : path, optional
        Folder for cross_anatomy.json, cross_anatomy.csv (a row for each tumour, variant and mode),
        cross_anatomy.md (the table) and cross_anatomy.png. An interrupted run is taken up there by the same call.
    random_seed : int
    mass_effect : bool
    outline_error_mm : float
        Standard deviation of the error with which the outlines that the pipeline sees are drawn; errors are counted
        against the truth.
    variants : {"all", "pipeline"}
        Leave out the clean registration and the true tissue maps, which cost more than all else.
    budget_solves : int
        Of each refinement.
    progress : Progress

    Returns
    -------
    dict
        `cases`: a list of rows, see `measure_tumour`; `summary`: see `tables.summarise`; the conditions.

    Raises
    ------
    InputError
        When `count` is below 1, there are no such variants, or `out` holds another interrupted run.
    DatabaseError
        When the database is not of SRI24.
    """
    study = CrossAnatomy(count, variants)
    conditions = Conditions(random_seed, mass_effect, outline_error_mm)
    results = run_studies([study], database, out, conditions=conditions, budget_solves=budget_solves, progress=progress)
    return results[study.name]


def measure_tumour(tumour: Tumour, variants: str = "all") -> list[dict[str, Any]]:
    """One made-up patient through the pipeline, without and with refinement.

    Parameters
    ----------
    tumour : Tumour
        With its truth.
    variants : {"all", "pipeline"}

    Returns
    -------
    list of dict
        A row for each variant and mode: `variant`, `mode`, the figures of `errors.density_errors`,
        `seed_error_mm`, `length_ratio`, `rho_t_ratio` (found / true; of the model, where the density has no
        parameters), `drawn_dice_core`, `drawn_dice_whole` (of the outlines that the pipeline sees to the true ones)
        and `seconds`.
    """
    case, setting = tumour.phantom, tumour.setting
    if case is None:
        raise ValueError("The truth of a real patient is not known.")
    plans = [(PIPELINE, mode, tumour.way, "atlas") for mode in MODES]
    plans += [(OWN_TISSUE, mode, tumour.way, "own") for mode in ("patient", "assimilated")]
    if variants == "all" and setting.between is not None:
        clean = Way(tumour.patient, _chained(case.truth, setting.between), setting, progress=tumour.progress)
        plans += [(CLEAN, mode, clean, "atlas") for mode in ("none", "atlas", "patient")]
        plans += [(TRUE_MAPS, "patient", tumour.way, "true")]
    drawn = dict(zip(("drawn_dice_core", "drawn_dice_whole"), tumour.drawn_dice))
    rows = []
    for variant, mode, way, tissue in plans:
        tumour.progress(0.0, f"{variant}, {mode}")
        found = way.found(mode, tissue)
        errors = {
            **density_errors(found.estimate.in_patient.array, case),
            **_parameter_errors(found.model, case),
        }
        rows.append({"variant": variant, "mode": mode, **errors, **drawn, "seconds": found.seconds})
    return rows


def _parameter_errors(model: Estimate, case: Phantom) -> dict[str, float]:
    found = model.parameters[0]
    true_seed = case.truth.point_in_patient(case.parameters.seed)
    return {
        "seed_error_mm": float(np.linalg.norm(model.anatomy.point_in_patient(found.seed) - true_seed)),
        "length_ratio": model.infiltration_lengths_mm[0] / case.infiltration_length,
        "rho_t_ratio": found.rho_t / case.parameters.rho_t,
    }


def _chained(first: SpaceMap, second: SpaceMap) -> SpaceMap:
    """Patient to the atlas of `second` by way of the anatomy of `first`."""
    return SpaceMap(
        patient_to_atlas=in_turn(first.patient_to_atlas, second.patient_to_atlas),
        atlas_to_patient=in_turn(second.atlas_to_patient, first.atlas_to_patient),
    )
