"""A tumour in grey matter alone, whose figures under other assumptions are known: D counts by what it is in grey."""

from dataclasses import replace

import numpy as np
import pytest

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.estimates.foci import combined_density
from TumorQueryLib.estimates.sensitivity import TUMOUR_MARGIN, assumed_tissues, sensitivity
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.growth import GrowthParameters, simulate

pytestmark = pytest.mark.slow

THRESHOLDS = (0.6, 0.2)
GRID = Grid.isotropic(34, 1.5, (4.0, -6.0, 8.0))
#: In grey matter ten times slower than white, a length of 5 mm spreads as 1.58 mm does in white matter.
LENGTH, RHO_T = 5.0, 8.0


def grey_maps():
    none = np.zeros(GRID.shape, np.float32)
    grey = none.copy()
    grey[1:-1, 1:-1, 1:-1] = 1
    return TissueMaps(none, grey, none, GRID)


def grown(*seeds, maps=None, length=LENGTH, rho_t=RHO_T):
    """An estimate that is the tumour itself, and the regions on its grid, which is the image's."""
    maps = grey_maps() if maps is None else maps
    found = tuple(GrowthParameters.from_identifiable(seed, length, rho_t, 0.02) for seed in seeds)
    densities = [simulate(parameters, maps.tissue()) for parameters in found]
    density = densities[0] if len(densities) == 1 else combined_density(densities)
    masks = TumorMasks(density > THRESHOLDS[0], density > THRESHOLDS[1], GRID)
    anatomy, _ = Anatomy.of_patient(maps, Volume(masks.core, GRID), Volume(masks.whole, GRID))
    return Estimate.of("refined", anatomy, found, Volume(density, GRID), masks, masks, THRESHOLDS), masks


@pytest.fixture(scope="module")
def case():
    return grown((5.0, -7.0, 9.0))


@pytest.fixture(scope="module")
def rows(case):
    estimate, masks = case
    return sensitivity(estimate, masks, masks, THRESHOLDS, level=0.05)


def test_the_models_own_assumption_comes_first_and_finds_the_tumour_again(case, rows):
    estimate, _ = case
    row = rows[0]
    assert "10 times slower" in row.assumption
    assert row.infiltration_lengths_mm[0] == pytest.approx(LENGTH, rel=0.03)
    assert row.rho_t[0] == pytest.approx(RHO_T, rel=0.03)
    assert row.dice_sum > 1.98
    above = np.count_nonzero(estimate.in_patient.array > 0.05) * GRID.voxel_volume_ml
    assert row.above_level_ml == pytest.approx(above, rel=0.05)
    assert (row.core_ml, row.whole_ml) == pytest.approx(estimate.fit.predicted_ml, rel=0.03)


def test_where_grey_matter_is_faster_the_same_outlines_mean_a_shorter_length(rows):
    """The growth depends on the diffusivity in grey matter alone, so the length falls as the root of the ratio."""
    assert "3 times slower" in rows[1].assumption
    assert rows[1].infiltration_lengths_mm[0] == pytest.approx(LENGTH * np.sqrt(0.3), rel=0.05)
    assert rows[1].dice_sum > 1.97
    assert "white matter in the tumour" in rows[2].assumption
    # Not exactly, since beyond its margin the tissue stays grey.
    assert rows[2].infiltration_lengths_mm[0] == pytest.approx(LENGTH * np.sqrt(0.1), rel=0.2)
    assert rows[2].rho_t[0] == pytest.approx(RHO_T, rel=0.1)


def test_rows_say_what_they_are(rows):
    assert {row.stopped for row in rows} <= {"converged", "budget"}
    described = rows[1].as_json()
    assert described["infiltration_length_patient_mm"] == list(rows[1].infiltration_lengths_mm)
    assert set(described["volumes_ml"]) == {"core", "whole", "above_level"}
    assert described["level"] == 0.05
    assert rows[1].sentence.startswith("grey matter 3 times slower: infiltration length 2.")


def test_the_same_input_gives_the_same_rows(case):
    estimate, masks = case
    first, second = (sensitivity(estimate, masks, masks, THRESHOLDS, solves=4) for _ in range(2))
    assert first == second


def test_each_focus_is_refined_in_its_own_half():
    estimate, masks = grown((-8.0, -7.0, 9.0), (16.0, -7.0, 9.0), length=3.0, rho_t=7.0)
    rows = sensitivity(estimate, masks, masks, THRESHOLDS, solves=24)
    assert all(len(row.infiltration_lengths_mm) == len(row.rho_t) == 2 for row in rows)
    assert rows[0].dice_sum > 1.95
    assert rows[0].infiltration_lengths_mm == pytest.approx((3.0, 3.0), rel=0.1)


def test_only_the_tissue_of_the_assumption_changes(case):
    estimate, masks = case
    own, faster, white = assumed_tissues(estimate.anatomy, masks).values()
    np.testing.assert_array_equal(own.mobility, estimate.anatomy.tissue.mobility)
    assert own.description == estimate.anatomy.tissue.description
    np.testing.assert_array_equal(faster.mask, own.mask)
    np.testing.assert_allclose(faster.mobility[own.mask], 1 / 3, rtol=1e-6)
    cells = np.argwhere(masks.whole)
    for cell in np.argwhere(own.mask)[::60]:
        near = np.linalg.norm((cells - cell) * 1.5, axis=1).min() <= TUMOUR_MARGIN
        assert white.mobility[tuple(cell)] == (1 if near else own.mobility[tuple(cell)])


def test_the_margin_of_white_matter_is_the_patients_millimetres(case):
    """In an atlas whose millimetre is 1.2 of the patient's, a voxel of 1.5 mm is 1.8 mm wide, beyond the margin."""
    estimate, masks = case
    larger = replace(estimate.anatomy, length_scale=1.2)
    white = assumed_tissues(larger, masks)["white matter in the tumour"]
    np.testing.assert_array_equal(white.mobility == 1, masks.whole)


def test_all_searches_end_with_their_time(case, monkeypatch):
    # How often a search looks at the clock; these tumours are so small that it would end before its first look.
    monkeypatch.setattr("TumorQueryLib.estimates.search.REPORT_EVERY", 1e-3)
    estimate, masks = case
    rows = sensitivity(estimate, masks, masks, THRESHOLDS, seconds=1e-3)
    assert [row.stopped for row in rows] == ["time"] * 3
    assert rows[0].as_json()["stopped"] == "time"
    # What was found by then is an answer all the same.
    assert all(row.dice_sum > 0.5 for row in rows)


def test_what_has_no_parameters_or_no_maps_is_refused(case):
    estimate, masks = case
    for changed in (
        replace(estimate, parameters=()),
        replace(estimate, anatomy=Anatomy("patient", estimate.anatomy.tissue)),
    ):
        with pytest.raises(InputError, match="refine the match first"):
            sensitivity(changed, masks, masks, THRESHOLDS)
