"""What an inference found: the estimates, the one that was chosen, and how they came about."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from TumorQueryLib.anatomy.patient_brain import PatientBrain
from TumorQueryLib.base.method import Method
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.base.version import __version__
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.estimates.estimate import Estimate, best_model, describe_parameters
from TumorQueryLib.estimates.refine import Refinement
from TumorQueryLib.estimates.sensitivity import SensitivityRow
from TumorQueryLib.estimates.uncertainty import Uncertainty
from TumorQueryLib.geometry.grid import Grid, Volume, resample_mask
from TumorQueryLib.geometry.regions import TumorMasks, threshold_density
from TumorQueryLib.growth import GrowthParameters
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.registration import Alignment, Registration
from TumorQueryLib.results.files import RESULT_VERSION, outputs_of, write_result
from TumorQueryLib.results.plan import Plans
from TumorQueryLib.strategies import Match


@dataclass(frozen=True)
class DatabaseIdentity:
    """Which database was queried, without its path.

    Parameters
    ----------
    sha256 : str
        Of its content.
    entries : int
    atlas, atlas_sha256 : str
        The atlas that its tumours grew in.
    threshold_core, threshold_whole : float
        Densities above which a voxel belongs to core and whole tumour.
    solver_version : str
        By which its tumours grew.
    """

    sha256: str
    entries: int
    atlas: str
    atlas_sha256: str
    threshold_core: float
    threshold_whole: float
    solver_version: str

    @classmethod
    def of(cls, database: TumorDatabase) -> DatabaseIdentity:
        """The identity of an open database."""
        return cls(
            sha256=database.sha256,
            entries=len(database),
            atlas=database.atlas_name,
            atlas_sha256=database.atlas_sha256,
            threshold_core=database.threshold_core,
            threshold_whole=database.threshold_whole,
            solver_version=database.solver_version,
        )

    @property
    def thresholds(self) -> tuple[float, float]:
        """Of core and whole tumour."""
        return self.threshold_core, self.threshold_whole


@dataclass(frozen=True, eq=False)
class Result:
    """What `infer` found.

    Parameters
    ----------
    patient : Patient
        As it was used: its images aligned, unless the method declines that.
    method : Method
    database : DatabaseIdentity
    alignment : dict of str to Alignment, optional
        How each image but the T1Gd lay to it, by role; None where that was not looked at.
    brain : PatientBrain
    registration : Registration
    query : TumorMasks
        The patient's regions on the atlas grid.
    matches : tuple of Match
        Best first.
    matched_parameters : tuple of GrowthParameters
        Of the matches, in the atlas.
    estimates : dict of str to Estimate
        "match"; "refined" where a refinement was asked for; "assimilated" where that density was, or its uncertainty.
    chosen : str
        Name of the estimate that is shown, written and planned on.
    refinement : Refinement, optional
        How the search for "refined" went.
    uncertainty : Uncertainty, optional
        Of the estimate "assimilated".
    sensitivity : tuple of SensitivityRow
        The refined tumour's figures under other assumptions about the tissue; empty where that was not asked for.
    timings : dict of str to float
        Seconds of each step.
    warnings : tuple of str
    plans : Plans, optional
        Made of it, where they were asked for.
    """

    patient: Patient
    method: Method
    database: DatabaseIdentity
    alignment: dict[str, Alignment] | None
    brain: PatientBrain
    registration: Registration
    query: TumorMasks
    matches: tuple[Match, ...]
    matched_parameters: tuple[GrowthParameters, ...]
    estimates: dict[str, Estimate]
    chosen: str
    refinement: Refinement | None
    uncertainty: Uncertainty | None
    sensitivity: tuple[SensitivityRow, ...]
    timings: dict[str, float]
    warnings: tuple[str, ...]
    plans: Plans | None = None

    @property
    def estimate(self) -> Estimate:
        """The chosen estimate."""
        return self.estimates[self.chosen]

    @property
    def model(self) -> Estimate:
        """The grown tumour behind the chosen density: itself, or what it was assimilated from.

        It has parameters, and how well the model agrees with the segmentation is its fit: an assimilated density
        agrees by construction.
        """
        return self.estimate if self.estimate.parameters else best_model(self.estimates)

    @property
    def density(self) -> Volume:
        """The chosen tumour cell density on the T1Gd image's grid, float32 in [0, 1]."""
        return self.estimate.in_patient

    @cached_property
    def regions(self) -> tuple[Volume, Volume]:
        """Core and whole tumour of the density, boolean, on the T1Gd image's grid."""
        return threshold_density(self.density, *self.database.thresholds)

    @property
    def core(self) -> Volume:
        """Where the density exceeds the core's threshold, boolean, on the T1Gd image's grid."""
        return self.regions[0]

    @property
    def whole(self) -> Volume:
        """Where the density exceeds the whole tumour's threshold, boolean, on the T1Gd image's grid."""
        return self.regions[1]

    @cached_property
    def brain_on_t1gd(self) -> Volume:
        """The patient's brain, the segmented tumour included, boolean, on the T1Gd image's grid."""
        return self.brain.on(self.patient.t1gd.grid, self.patient.registration_image, self.patient.whole)

    @cached_property
    def segmentation(self) -> Volume:
        """The segmentation as it was given, uint8 on the T1Gd image's grid: 1 core, 2 the rest of the whole tumour."""
        observed = self.patient.regions_on_t1gd
        return Volume(np.where(observed.core, 1, 2 * observed.whole).astype(np.uint8), observed.grid)

    @cached_property
    def cavity(self) -> Volume | None:
        """The resection cavity, boolean, on the T1Gd image's grid; None where there is none."""
        given = self.patient.cavity
        mask = None if given is None else resample_mask(given, self.patient.t1gd.grid)
        return mask if mask is not None and mask.array.any() else None

    @cached_property
    def tissue(self) -> Volume:
        """The tissue that the shown tumour's model grew in, uint8 on the T1Gd image's grid.

        0 outside the brain, 1 CSF, 2 grey matter, 3 white matter (see `Anatomy.tissue_in_patient`).
        """
        return self.model.anatomy.tissue_in_patient(self.brain_on_t1gd)

    @property
    def thresholds(self) -> tuple[float, float]:
        """Densities above which a voxel belongs to core and whole tumour."""
        return self.database.thresholds

    @property
    def has_draws(self) -> bool:
        """Whether the uncertainty of the density is known, and with it joint draws."""
        return self.uncertainty is not None

    def drawn_densities(self, grid: Grid) -> Iterator[Volume]:
        """The joint draws of the density at the voxels of a grid in the patient's space, float32, one after the other.

        Held to the outlines as the density is. None where the result was made without uncertainty.
        """
        return iter(()) if self.uncertainty is None else self.uncertainty.drawn_densities(grid)

    def to_json(self) -> dict[str, Any]:
        """The content of result.json, version 2."""
        outputs = outputs_of(self)
        atlas = self.estimates["match"].anatomy
        return {
            "version": RESULT_VERSION,
            "software": {"name": "TumorQuery", "version": __version__, "python": platform.python_version()},
            "inputs": list(self.patient.inputs),
            "labels": self.patient.labels,
            "brain": {
                "source": self.brain.source,
                "volume_ml": round(self.registration.quality["brain_ml"], 1),
            },
            "database": asdict(self.database),
            "registration": {"mode": self.registration.mode, "quality": self.registration.quality},
            "query": {
                "strategy": self.method.strategy,
                "matches": [
                    {
                        "entry": match.entry,
                        "dice_core": match.dice_core,
                        "dice_whole": match.dice_whole,
                        "dice_sum": match.dice_sum,
                        "parameters": describe_parameters(parameters, atlas),
                    }
                    for match, parameters in zip(self.matches, self.matched_parameters)
                ],
            },
            "estimates": {
                name: estimate.as_json(outputs["density" if name == self.chosen else f"density_{name}"])
                for name, estimate in self.estimates.items()
            },
            "chosen": self.chosen,
            "model": self.model.name,
            "refinement": self._describe_refinement(),
            "alignment": None
            if self.alignment is None
            else {role: found.as_json() for role, found in self.alignment.items()},
            "tissue": self._describe_tissue(),
            "sensitivity": [row.as_json() for row in self.sensitivity] or None,
            "uncertainty": None if self.uncertainty is None else self.uncertainty.as_json(),
            "plan": None if self.plans is None else self.plans.as_json(),
            "timings_s": {name: round(seconds, 4) for name, seconds in self.timings.items()},
            "outputs": outputs,
            "warnings": list(self.warnings),
        }

    def _describe_tissue(self) -> dict[str, Any] | None:
        """The patient's own tissue, found or given; None where the tumour grew in the atlas's."""
        refined = self.estimates.get("refined")
        return None if refined is None or refined.anatomy.origin is None else refined.anatomy.origin.as_json()

    def _describe_refinement(self) -> dict[str, Any] | None:
        if self.refinement is None:
            return None
        return {
            "solves": len(self.refinement.path),
            "stopped": self.refinement.stopped,
            "match_dice_sum": self.refinement.match_dice_sum,
            "tissue_voxels_added": self.estimates["refined"].anatomy.tissue_voxels_added,
        }

    def write(self, folder: str | os.PathLike, *, progress: Progress = no_progress) -> Path:
        """Write result.json, the volumes, the transforms and the report; all or nothing.

        Returns
        -------
        Path
            Of result.json; `read_result` reads the folder again.

        Raises
        ------
        OutputError
            When the folder cannot be written.
        """
        return write_result(self, folder, progress=progress)
