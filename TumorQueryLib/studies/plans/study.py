"""The study of the plans: tumours whose true density is known, planned as a patient's are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.inference import find_patient_brain
from TumorQueryLib.studies.known_truth.study import Study, Tables
from TumorQueryLib.studies.known_truth.tumour import Found, Tumour
from TumorQueryLib.studies.plans import tables
from TumorQueryLib.studies.plans.coverage import Planned, cells_outside

#: The pipeline's answers that plans follow, by the name that they have as an estimate.
MODES = {"match": "none", "refined": "patient", "assimilated": "assimilated"}


@dataclass(frozen=True)
class PlansStudy(Study):
    """The study "plans": the true cells outside each plan of made-up patients and of the bundled sample case."""

    name = "plans"
    tables: ClassVar[Tables] = tables
    takes_sample = True

    def measure(self, tumour: Tumour) -> list[dict[str, Any]]:
        """The plans of one tumour: as the pipeline sees the patient, counted against the truth.

        Parameters
        ----------
        tumour : Tumour
            With its true density.

        Returns
        -------
        list of dict
            See `coverage.cells_outside`; the densities are the keys of `MODES`. Where nothing can be said of how sure
            the density is, there is no probable plan.
        """
        if tumour.true_density is None:
            raise ValueError("The truth of a real patient is not known.")
        plans = {}
        for name, mode in MODES.items():
            tumour.progress(0.0, f"planning, {name}")
            plans[name] = _planned(tumour, name, tumour.way.found(mode))
        return cells_outside(plans, tumour.true_density)

    def in_table(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """A row for each tumour, see `tables.by_tumour`."""
        return tables.by_tumour(rows)


def _planned(tumour: Tumour, name: str, found: Found) -> Planned:
    patient = tumour.way.patient
    brain = find_patient_brain(patient).on(patient.t1gd.grid, patient.registration_image, patient.whole)
    uncertainty = None
    if name == "assimilated":
        try:
            uncertainty = tumour.way.uncertainty
        except InputError:
            # No outline in tissue: the probable plan is missing from this tumour's rows, and counted as missing.
            uncertainty = None
    return Planned(
        chosen=name,
        density=found.estimate.in_patient,
        observed=patient.regions_on_t1gd,
        tissue=found.model.anatomy.tissue_in_patient(brain),
        uncertainty=uncertainty,
    )
