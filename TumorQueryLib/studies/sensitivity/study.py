"""The study of the sensitivity: patients refined again under other assumptions about the tissue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from TumorQueryLib.estimates.sensitivity import SENSITIVITY_SOLVES, SensitivityRow, sensitivity
from TumorQueryLib.studies.known_truth.study import Study, Tables
from TumorQueryLib.studies.known_truth.tumour import Tumour
from TumorQueryLib.studies.sensitivity import tables


@dataclass(frozen=True)
class SensitivityStudy(Study):
    """The study "sensitivity": patients are refined, then each again under other assumptions about the tissue.

    An assumption gets the solves of a refinement, but at most `estimates.sensitivity.SENSITIVITY_SOLVES`.
    """

    name = "sensitivity"
    tables: ClassVar[Tables] = tables
    takes_patients = True

    def measure(self, tumour: Tumour) -> list[dict[str, Any]]:
        """One patient's tumour, refined in the patient's anatomy, again under each assumption.

        Returns
        -------
        list of dict
            Of each of `estimates.sensitivity.assumed_tissues`: `kind` ("made up" or "patient"), `assumption`;
            `length_mm` in the patient and `rho_t` of the first focus, `second_length_mm` and `second_rho_t` (None
            without one); `core_ml`, `whole_ml` and `above_level_ml` (above the density `level`) of the density;
            `dice_sum` on the T1Gd image's grid; `stopped`; `true_length_mm` and `true_rho_t` (None for a patient).
        """
        found = tumour.way.found("patient")
        rows = sensitivity(
            found.model,
            tumour.way.patient.regions_on_t1gd,
            found.observed,
            tumour.setting.thresholds,
            solves=min(SENSITIVITY_SOLVES, tumour.setting.method.refine_solves),
            progress=tumour.progress,
        )
        true = tumour.phantom
        return [
            {
                "kind": "patient" if true is None else "made up",
                "assumption": row.assumption,
                **_of_foci(row),
                "core_ml": row.core_ml,
                "whole_ml": row.whole_ml,
                "above_level_ml": row.above_level_ml,
                "level": row.level,
                "dice_sum": row.dice_sum,
                "stopped": row.stopped,
                "true_length_mm": None if true is None else true.infiltration_length,
                "true_rho_t": None if true is None else true.parameters.rho_t,
            }
            for row in rows
        ]


def _of_foci(row: SensitivityRow) -> dict[str, float | None]:
    lengths, ages = (*row.infiltration_lengths_mm, None), (*row.rho_t, None)
    return {"length_mm": lengths[0], "rho_t": ages[0], "second_length_mm": lengths[1], "second_rho_t": ages[1]}
