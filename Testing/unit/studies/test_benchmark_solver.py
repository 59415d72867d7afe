import numpy as np
import pytest

from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.regions import dice
from TumorQueryLib.growth import GrowthParameters, simulate
from TumorQueryLib.studies.benchmarks import solver, tumor_growth_toolkit

GRID = Grid((40, 38, 36), np.diag([1.5, 1.5, 1.5, 1.0]))


@pytest.fixture
def lump():
    """White matter with a rim of grey matter, away from the grid's sides, and the toolkit's start in it."""
    points = GRID.to_ras(np.moveaxis(np.indices(GRID.shape), 0, -1)) - GRID.centre
    distance = np.linalg.norm(points, axis=-1)
    white, grey = (distance < 18).astype(float), ((distance >= 18) & (distance < 24)).astype(float)
    return white, grey, tumor_growth_toolkit.starting_field(points, np.array([3.0, 0.0, 0.0]))


def test_the_reference_start_is_the_toolkits(lump):
    start = lump[2]
    assert start[start > 0].min() >= 0.1
    # About 168 mm^3, depending on where the cut meets the grid.
    assert start.sum() * 1.5**3 == pytest.approx(168, rel=0.1)


def test_the_reference_conserves_mass_without_proliferation(lump):
    white, grey, start = lump
    grown = tumor_growth_toolkit.simulate(white, grey, 1.5, 0.5, 0.0, 100.0, start)
    assert grown.sum() == pytest.approx(start.sum(), rel=1e-9)
    assert grown.max() < 0.5 * start.max()
    assert not grown[white + grey < 0.1].any()


def test_the_reference_solves_the_same_equation(lump):
    white, grey, start = lump
    # Slow growth, so that the reference's explicit steps are short enough.
    parameters = GrowthParameters(tuple(GRID.centre), 0.05, 0.02, 250.0)
    reference = tumor_growth_toolkit.simulate(white, grey, 1.5, 0.05, 0.02, 250.0, start)
    density = simulate(parameters, Tissue.from_maps(white, grey, None, GRID), start)
    assert dice(density > 0.2, reference > 0.2) > 0.97
    assert np.count_nonzero(reference > 0.2) > 1000


def test_a_result_reads_as_a_table():
    case = {"seconds": 0.05, "reference_seconds": 12.9, "ratio": 258.0, "ns_per_voxel_update": 5.0, "dice_02": 0.9987}
    result = {
        "atlas": "MNI152",
        "seed_mm": [1.0, 2.0, 3.0],
        "cases": {"A": case | {"dice_06": 0.9981}, "D": case},
        "geometric_mean_ratio": 258.0,
    }
    text = solver.as_text(result)
    assert "258" in text
    assert "0.9981" in text
    assert text.splitlines()[-2].rstrip().endswith("-")
