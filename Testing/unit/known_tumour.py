"""Tumours of known parameters, what a query finds for them, and the atlas as a patient of known place."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.estimates.matches import estimate_of_match
from TumorQueryLib.geometry.grid import Grid, Volume, resample, resample_mask
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.geometry.transforms import SpaceMap
from TumorQueryLib.growth import GrowthParameters, grow_trajectory
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.strategies import create_strategy

THRESHOLDS = (0.6, 0.2)
#: Infiltration length (mm) and whole-tumour volume (ml) of a compact tumour between the database's places.
LENGTH, VOLUME = 1.8, 22.0
#: Millimetres of the turned patient for one of the atlas.
SCALE = 1.05


def masks_of(density, grid):
    return TumorMasks(density > THRESHOLDS[0], density > THRESHOLDS[1], grid)


def grown_to(seed, length, volume_ml, tissue):
    """The first moment of a trajectory whose whole tumour has a volume (ml)."""
    return next(m for m in grow_trajectory(seed, length, tissue, every_step=True) if m.volume_ml >= volume_ml)


@dataclass(frozen=True)
class Case:
    """A tumour of known parameters and what a query finds for it."""

    parameters: GrowthParameters
    masks: TumorMasks
    ranked: list[GrowthParameters]
    match: Estimate


def case_of(masks, parameters, database, atlas, tissue, top=15):
    matches = create_strategy("direct", database).query(masks, top)
    ranked = [database.parameters(match.entry) for match in matches]
    stay = sitk.AffineTransform(3)
    anatomy = Anatomy("atlas", tissue, SpaceMap(stay, stay))
    version = database.solver_version
    match = estimate_of_match(ranked[0], anatomy, masks, masks, THRESHOLDS, solver_version=version)
    return Case(parameters, masks, ranked, match)


def turned_patient(atlas, masks):
    """The atlas as a patient, moved and made 5 % larger, with the true way there."""
    to_atlas = sitk.Similarity3DTransform()
    to_atlas.SetRotation((0.2, 0.5, 1.0), 0.15)
    to_atlas.SetScale(1 / SCALE)
    to_atlas.SetTranslation((4.0, -7.0, 9.0))
    space = SpaceMap(to_atlas, to_atlas.GetInverse())
    corners = [space.point_in_patient(p) for p in atlas.t1.grid.to_ras(np.argwhere(atlas.t1.array > 0)[::5000])]
    grid = Grid.isotropic(120, 1.6, np.mean(corners, axis=0))
    t1gd = resample(atlas.t1, grid, to_atlas)
    core, whole = (resample_mask(Volume(m, atlas.grid), grid, to_atlas) for m in (masks.core, masks.whole))
    return Patient(t1gd=t1gd, core=core, whole=whole), space
