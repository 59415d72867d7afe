"""Results whose figures are known beforehand, made without an inference."""

from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.patient_brain import PatientBrain
from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.base.method import Method
from TumorQueryLib.estimates.assimilate import assimilate
from TumorQueryLib.estimates.estimate import Estimate, best_model
from TumorQueryLib.estimates.kriging import Kriging
from TumorQueryLib.estimates.outlines import log_odds
from TumorQueryLib.estimates.refine import Refinement
from TumorQueryLib.estimates.search import Solve
from TumorQueryLib.estimates.uncertainty import ParameterSpread, Uncertainty
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.transforms import SpaceMap
from TumorQueryLib.growth import GrowthParameters
from TumorQueryLib.registration import Registration
from TumorQueryLib.results.result import DatabaseIdentity, Result
from TumorQueryLib.strategies import Match

#: Lengths of 2 and 3 mm, rho T of 15 and 24.
MATCHED = GrowthParameters((-20.0, 10.0, 7.0), 0.4, 0.1, 150.0)
REFINED = GrowthParameters((5.0, 6.0, 7.0), 0.9, 0.1, 240.0)
QUALITY = {"brain_dice": 0.98, "correlation": 0.9, "brain_ml": 1234.56}


def ball_density(patient, radius):
    """A density that falls from 1 to 0 around `radius` mm from the middle of the segmented tumour."""
    grid = patient.t1gd.grid
    centre = patient.whole.grid.to_ras(np.argwhere(patient.whole.array).mean(axis=0))
    distance = np.linalg.norm(grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1)) - centre, axis=-1)
    return Volume((1 / (1 + np.exp((distance - radius) / 3))).astype(np.float32), grid)


def whole_grid_maps(grid):
    """White matter everywhere."""
    one = np.ones(grid.shape, np.float32)
    return TissueMaps(one, 0 * one, 0 * one, grid)


def made_up_result(patient, *, chosen="refined", thresholds=(0.6, 0.2), warnings=(), **changes) -> Result:
    """A match 9 mm and a refinement 15 mm in radius, in an atlas that is the patient's own space.

    With `chosen="match"` the refinement is there all the same; with `refinement=None` there is none.
    """
    observed = patient.regions_on_t1gd
    maps = whole_grid_maps(patient.t1gd.grid)
    space = SpaceMap(sitk.AffineTransform(3), sitk.AffineTransform(3))
    atlas = Anatomy("atlas", maps.tissue(), space, maps=maps)
    own = Anatomy("patient", maps.tissue(), tissue_voxels_added=7, maps=maps)
    match, refined = (
        Estimate.of(name, anatomy, (parameters,), ball_density(patient, radius), observed, observed, thresholds)
        for name, anatomy, parameters, radius in (("match", atlas, MATCHED, 9), ("refined", own, REFINED, 15))
    )
    path = tuple(Solve(n, 1.0 + 0.1 * n, REFINED.seed, 3.0, 24.0) for n in range(3))
    refinement = Refinement((REFINED,), refined.density, match.fit.dice_sum, path, "budget")
    refinement = changes.pop("refinement", refinement)
    estimates = {"match": match} if refinement is None else {"match": match, "refined": refined}
    details = {
        "patient": patient,
        "method": Method(),
        "database": DatabaseIdentity("0" * 64, 5000, "SRI24", "1" * 64, *thresholds, "1"),
        "registration": Registration(space.patient_to_atlas, space.atlas_to_patient, "none", QUALITY, ()),
        "alignment": None,
        "brain": PatientBrain("stripped"),
        "query": observed,
        "matches": (Match(entry=3, dice_core=0.5, dice_whole=0.75, score=1.25), Match(4, 0.5, 0.5, 1.0)),
        "matched_parameters": (MATCHED, MATCHED),
        "estimates": estimates,
        "chosen": chosen if chosen in estimates else "match",
        "refinement": refinement,
        "uncertainty": None,
        "sensitivity": (),
        "timings": {"load": 0.5, "total": 1.5},
        "warnings": tuple(warnings),
    }
    return Result(**details | changes)


def assimilated_result(patient, *, chosen="assimilated", uncertainty=True, level=0.05, foci=1, **changes) -> Result:
    """The made-up result with its model assimilated to the outlines and, unless declined, with bounds.

    With two foci the model grew from the match's place too.
    """
    result = made_up_result(patient, **changes)
    model, observed = best_model(result.estimates), patient.regions_on_t1gd
    model = replace(model, parameters=(*model.parameters, MATCHED)[:foci])
    estimate = assimilate(model, observed, observed, result.database.thresholds)
    bounds = made_up_uncertainty(model, estimate, level, result.thresholds) if uncertainty else None
    estimates = result.estimates | {model.name: model, "assimilated": estimate}
    return replace(result, estimates=estimates, chosen=chosen, uncertainty=bounds)


def made_up_uncertainty(model, assimilated, level=0.05, thresholds=(0.6, 0.2)) -> Uncertainty:
    """Bounds whose figures are known: where the density exceeds .001 its log-odds have a deviation of 1.

    Of every focus the logarithm of the length has a standard deviation of 0.2, that of rho T one of 0.1 of its own.
    """
    odds = log_odds(assimilated.density.array)
    deviation = (assimilated.density.array > 0.001).astype(np.float32)
    spreads = tuple(
        ParameterSpread(one, np.diag([1.0, 1.0, 1.0, 0.04, 0.01]), np.array([0, 0, 0, 0, 1.0]))
        for one in model.parameters
    )
    cells = np.count_nonzero(deviation)
    return Uncertainty(
        anatomy=assimilated.anatomy,
        density=assimilated.in_patient,
        log_odds=odds,
        deviation=deviation,
        model=model.name,
        spreads=spreads,
        residual_rms=model.residual_rms,
        level=level,
        jacobian=np.full((5 * len(spreads), cells), 0.1, np.float32),
        discrepancy=Kriging(np.zeros((0, 3)), 15.0, 0.5),
        discrepancy_deviation=0.9,
        correction_share=np.ones_like(deviation),
        thresholds=thresholds,
    )
