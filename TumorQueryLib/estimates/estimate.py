"""The tumour that a density belongs to: one noun for what is shown, written, compared and planned on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.estimates.fit import Fit
from TumorQueryLib.estimates.outlines import outline_residuals
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.growth import GrowthParameters


@dataclass(frozen=True, eq=False)
class Estimate:
    """A tumour proposed for a patient.

    Parameters
    ----------
    name : str
        "match", "refined" or "assimilated".
    anatomy : Anatomy
        Where it grew.
    parameters : tuple of GrowthParameters
        One for each focus, in `anatomy`; none where the density has none.
    density : Volume
        Tumour cell density on the anatomy's grid, float32 in [0, 1].
    in_patient : Volume
        The same on the T1Gd image's grid.
    fit : Fit
        Of `in_patient`, on the T1Gd image's grid: what a user would count.
    fit_in_anatomy : Fit
        Of `density`, on the anatomy's grid: what the search saw.
    residual_rms : float
        What the density leaves unexplained on the segmentation's outlines, in log-odds (`outlines.py`); nan where no
        outline lies in tissue.

    Raises
    ------
    InputError
        When the density does not lie on the anatomy's grid.
    """

    name: str
    anatomy: Anatomy
    parameters: tuple[GrowthParameters, ...]
    density: Volume
    in_patient: Volume
    fit: Fit
    fit_in_anatomy: Fit
    residual_rms: float

    def __post_init__(self) -> None:
        if not self.density.grid.matches(self.anatomy.grid):
            raise InputError("An estimate's density lies on the grid of its anatomy.")

    def or_better(self, other: Estimate) -> Estimate:
        """The other one where it fits at least as well on the T1Gd image's grid, else this one."""
        return other if other.fit.dice_sum >= self.fit.dice_sum else self

    @classmethod
    def of(
        cls,
        name: str,
        anatomy: Anatomy,
        parameters: tuple[GrowthParameters, ...],
        density: Volume,
        observed: TumorMasks,
        observed_in_anatomy: TumorMasks,
        thresholds: tuple[float, float],
    ) -> Estimate:
        """Map a density to the patient and count its fit there and in its anatomy.

        Parameters
        ----------
        name : str
        anatomy : Anatomy
        parameters : tuple of GrowthParameters
        density : Volume
            See the class.
        observed : TumorMasks
            The segmentation on the T1Gd image's grid.
        observed_in_anatomy : TumorMasks
            The segmentation on the anatomy's grid.
        thresholds : tuple of float
            Of core and whole tumour.
        """
        in_patient = anatomy.in_patient(density, observed.grid)
        return cls(
            name=name,
            anatomy=anatomy,
            parameters=parameters,
            density=density,
            in_patient=in_patient,
            fit=Fit.of(in_patient, observed, thresholds),
            fit_in_anatomy=Fit.of(density, observed_in_anatomy, thresholds),
            residual_rms=outline_residuals(density, anatomy.tissue, observed_in_anatomy, thresholds).rms,
        )

    @property
    def infiltration_lengths_mm(self) -> tuple[float, ...]:
        """sqrt(D/rho) of each focus in the patient's millimetres."""
        return tuple(p.infiltration_length * self.anatomy.length_scale for p in self.parameters)

    def as_json(self, density_file: str) -> dict[str, Any]:
        """As result.json holds it, with the name of the density's file."""
        return {
            "anatomy": self.anatomy.name,
            "parameters": [describe_parameters(parameters, self.anatomy) for parameters in self.parameters],
            "fit": self.fit.as_json(),
            "fit_in_anatomy": self.fit_in_anatomy.as_json(),
            "residual_rms": None if math.isnan(self.residual_rms) else self.residual_rms,
            "density": density_file,
        }


def best_model(estimates: Mapping[str, Estimate]) -> Estimate:
    """The grown tumour that agrees best with the segmentation on the T1Gd image's grid: refined, else match."""
    match = estimates["match"]
    return match.or_better(estimates["refined"]) if "refined" in estimates else match


def describe_parameters(parameters: GrowthParameters, anatomy: Anatomy) -> dict[str, Any]:
    """A tumour's parameters as result.json holds them, in its anatomy and in the patient.

    `seed_mm` and `infiltration_length_mm` are in the anatomy, `seed_patient_mm` and
    `infiltration_length_patient_mm` in the patient; all in mm, seeds in RAS.
    """
    return {
        "seed_mm": list(parameters.seed),
        "seed_patient_mm": anatomy.point_in_patient(parameters.seed).tolist(),
        "diffusivity_mm2_per_day": parameters.diffusivity,
        "proliferation_per_day": parameters.proliferation,
        "duration_days": parameters.duration,
        "infiltration_length_mm": parameters.infiltration_length,
        "infiltration_length_patient_mm": parameters.infiltration_length * anatomy.length_scale,
        "rho_t": parameters.rho_t,
    }
