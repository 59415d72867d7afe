"""A tumour that is in no database, and its matches."""

import numpy as np
import pytest
from known_tumour import LENGTH, VOLUME, case_of, grown_to, masks_of

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.growth import GrowthParameters, simulate


@pytest.fixture(scope="session")
def atlas():
    return Atlas.load("SRI24")


@pytest.fixture(scope="session")
def tissue(atlas):
    return Tissue.from_atlas(atlas)


@pytest.fixture(scope="session")
def database():
    with TumorDatabase.open("starter") as opened:
        yield opened


@pytest.fixture(scope="session")
def case(atlas, tissue, database):
    near = database.parameters(next(n for n in range(len(database)) if database.whole.volume[n] > 4000))
    seed = np.add(near.seed, (2.0, -1.5, 1.0))
    cell = tuple(np.rint(atlas.grid.to_index(seed)).astype(int))
    assert tissue.mask[cell], "the tumour of these tests has to start in tissue"
    moment = grown_to(seed, LENGTH, VOLUME, tissue)
    parameters = GrowthParameters.from_identifiable(seed, LENGTH, moment.rho_t, 0.02)
    return case_of(masks_of(simulate(parameters, tissue), atlas.grid), parameters, database, atlas, tissue)
