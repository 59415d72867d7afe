"""The paper's own estimate: the density of an entry, as the database has it."""

import numpy as np
import pytest
from known_tumour import THRESHOLDS

from TumorQueryLib.estimates.matches import estimate_of_match
from TumorQueryLib.geometry.regions import TumorMasks, dice
from TumorQueryLib.growth import SOLVER_VERSION


@pytest.mark.slow
def test_a_match_is_grown_by_its_databases_version_of_the_solver(case, database):
    lengths = np.sqrt(database.diffusivity / database.proliferation)
    long = np.flatnonzero(lengths > 7)
    entry = int(long[np.argmax(database.core.volume[long])])
    stored = TumorMasks(database.core.decode(entry), database.whole.decode(entry), database.grid)

    def agreement(version):
        estimate = estimate_of_match(
            database.parameters(entry), case.match.anatomy, stored, stored, THRESHOLDS, solver_version=version
        )
        regions = zip(THRESHOLDS, (stored.core, stored.whole))
        return min(dice(estimate.density.array > level, mask) for level, mask in regions)

    assert database.solver_version == "1"
    # Bit for bit where it was made; other processors may round otherwise.
    assert agreement(database.solver_version) >= 0.999
    assert agreement(SOLVER_VERSION) < 0.999
