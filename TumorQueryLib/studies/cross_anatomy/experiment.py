"""The experiment: made-up patients through the pipeline, and what each step of it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.geometry.transforms import SpaceMap, in_turn
from TumorQueryLib.studies.cross_anatomy import tables
from TumorQueryLib.studies.cross_anatomy.errors import density_errors
from TumorQueryLib.studies.known_truth.study import Study, Tables
from TumorQueryLib.studies.known_truth.tumour import MODES, Tumour, Way
from TumorQueryLib.studies.phantom import Phantom

#: Beside the pipeline's own registration and the carried tissue: the patient's own tissue (`anatomy.own`); a
#: registration from MNI152's clean T1, without tumour, noise or tilt; and the refinement in the patient's anatomy with
#: the true tissue maps instead of SRI24's.
PIPELINE, OWN_TISSUE, CLEAN, TRUE_MAPS = "pipeline", "own tissue", "clean registration", "true tissue maps"
VARIANTS = ("all", "pipeline")


@dataclass(frozen=True)
class CrossAnatomy(Study):
    """The study "cross_anatomy": what each step of the pipeline costs on made-up patients.

    Parameters
    ----------
    count : int
        See `Study`.
    variants : {"all", "pipeline"}
        Whether the clean registration and the true tissue maps are measured too, which cost more than all else.

    Raises
    ------
    InputError
        When there are no such variants.
    """

    variants: str = "all"
    name = "cross_anatomy"
    tables: ClassVar[Tables] = tables

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
        """One made-up patient through the pipeline, without and with refinement.

        Parameters
        ----------
        tumour : Tumour
            With its truth.

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
        if self.variants == "all" and setting.between is not None:
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

    def write(self, result: Mapping[str, Any], folder: Path) -> None:
        """Beside the tables cross_anatomy.png."""
        super().write(result, folder)
        tables.draw(result["cases"], folder / "cross_anatomy.png")


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
