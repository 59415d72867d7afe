"""A made-up patient of MNI152 for the tests of the studies."""

import numpy as np
import pytest
from known_tumour import grown_to

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.method import Method
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.transforms import SpaceMap, identity_transform
from TumorQueryLib.growth import GrowthParameters
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.registration import register
from TumorQueryLib.strategies import create_strategy
from TumorQueryLib.studies.known_truth.setting import Setting
from TumorQueryLib.studies.known_truth.tumour import Tumour
from TumorQueryLib.studies.phantom import Phantom, grown_phantom, synthetic_volumes


@pytest.fixture(scope="session")
def grown():
    """A tumour of about 20 ml in deep white matter."""
    anatomy = Atlas.load("MNI152")
    white = np.argwhere(anatomy.white_matter > 0.98)
    right = white[anatomy.grid.to_ras(white)[:, 0] > 20]
    x, y, z = anatomy.grid.to_ras(right[len(right) // 2]).tolist()
    moment = grown_to((x, y, z), 2.0, 20.0, Tissue.from_atlas(anatomy))
    parameters = GrowthParameters.from_identifiable((x, y, z), 2.0, moment.rho_t, 0.02)
    return grown_phantom(anatomy, parameters, (0.6, 0.2), random_seed=5)


@pytest.fixture(scope="session")
def known(grown):
    """The same tumour on the pipeline's way, with an affine registration and ten solves."""
    anatomy, atlas = Atlas.load("MNI152"), Atlas.load("SRI24")
    with TumorDatabase.open("starter") as database:
        setting = Setting(
            anatomy,
            atlas,
            database,
            create_strategy("direct", database),
            Method(registration="affine", refine_solves=10),
            register(anatomy.t1, atlas, "affine"),
        )
        yield Tumour(0, grown.patient, setting, phantom=grown)


@pytest.fixture(scope="module")
def ball():
    """A phantom whose density falls from 1 at its centre by 0.04 a mm, and every voxel's distance from there."""
    volumes = synthetic_volumes(core_radius=10.0, whole_radius=20.0)
    grid = volumes["t1gd"].grid
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    distance = np.linalg.norm(points - (20.0, 10.0, 5.0), axis=-1)
    brain = volumes["t1gd"].array > 0
    density = np.where(brain, np.clip(1 - 0.04 * distance, 0, 1), 0).astype(np.float32)
    space = SpaceMap(identity_transform(), identity_transform())
    parameters = GrowthParameters((20.0, 10.0, 5.0), 0.1, 0.01, 100.0)
    phantom = Phantom(Patient(**volumes), parameters, Volume(density, grid), brain, space, (0.6, 0.2))
    return phantom, distance
