"""A made-up patient of MNI152 for the tests of the studies."""

import numpy as np
import pytest
from known_tumour import grown_to

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.growth import GrowthParameters
from TumorQueryLib.studies.phantom import grown_phantom


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
