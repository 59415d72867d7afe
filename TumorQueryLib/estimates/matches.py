"""The paper's own estimate: an entry of the database, grown again (section 2.2)."""

from __future__ import annotations

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.growth import GrowthParameters, simulate


def estimate_of_match(
    parameters: GrowthParameters,
    anatomy: Anatomy,
    query: TumorMasks,
    observed: TumorMasks,
    thresholds: tuple[float, float],
    *,
    solver_version: str,
) -> Estimate:
    """The estimate "match" of an entry's parameters.

    Parameters
    ----------
    parameters : GrowthParameters
        Of the entry, in the atlas.
    anatomy : Anatomy
        The atlas.
    query : TumorMasks
        The patient's regions on the atlas grid.
    observed : TumorMasks
        The patient's regions on the T1Gd image's grid.
    thresholds : tuple of float
        The database's, of core and whole tumour.
    solver_version : str
        The database's, so that the density is the entry's own.
    """
    density = Volume(simulate(parameters, anatomy.tissue, solver_version=solver_version), anatomy.grid)
    return Estimate.of("match", anatomy, (parameters,), density, observed, query, thresholds)
