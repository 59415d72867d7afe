"""A result's voxels in the order of the series: the same voxels, however a file counts them."""

import itertools

import numpy as np
import pytest
from awkward_grids import AWKWARD_AFFINES

from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.inputs.checks import ImageFile
from TumorQueryLib.results.dicom.source import SourceSeries

SHAPE = (5, 4, 3)


def series_on(grid):
    return SourceSeries(ImageFile(Volume(np.zeros(grid.shape), grid), ""), ())


def counted_otherwise(volume, order, signs):
    """The same voxels along other axes, or from their other ends."""
    grid = volume.grid
    first = [0 if sign > 0 else n - 1 for sign, n in zip(signs, grid.shape)]
    affine = np.eye(4)
    affine[:3, :3] = (grid.affine[:3, :3] * signs)[:, order]
    affine[:3, 3] = grid.to_ras(first)
    array = volume.array[tuple(slice(None, None, sign) for sign in signs)].transpose(order)
    return Volume(array, Grid(array.shape, affine))


@pytest.mark.parametrize("affine", AWKWARD_AFFINES.values(), ids=AWKWARD_AFFINES)
def test_voxels_are_found_by_place_whatever_their_order(affine):
    grid = Grid(SHAPE, affine)
    volume = Volume(np.arange(60.0).reshape(SHAPE), grid)
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        other = counted_otherwise(volume, order, signs)
        slow = np.full(SHAPE, -1.0)
        for index in np.ndindex(other.grid.shape):
            slow[tuple(np.rint(grid.to_index(other.grid.to_ras(index))).astype(int))] = other.array[index]
        assert np.array_equal(slow, volume.array)
        assert np.array_equal(series_on(grid).on_grid(other), slow)


def turned(degrees):
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


@pytest.mark.parametrize(
    "moved",
    [
        lambda grid: grid.cropped((1, 0, 0), (6, 4, 3)),
        lambda grid: grid.cropped((0, 0, 0), (5, 4, 2)),
        lambda grid: Grid(grid.shape, grid.affine @ np.diag([1, 1, 1.1, 1])),
        lambda grid: Grid(grid.shape, turned(45) @ grid.affine),
        lambda grid: Grid(grid.shape, turned(4) @ grid.affine),
        lambda grid: grid.isotropic_like(0.5, (5, 4, 3)),
    ],
    ids=["a voxel on", "a slice less", "other slices", "turned by 45", "turned by 4", "finer"],
)
def test_other_voxels_are_none(moved):
    grid = Grid(SHAPE, AWKWARD_AFFINES["oblique"])
    other = moved(grid)
    assert series_on(grid).on_grid(Volume(np.zeros(other.shape), other)) is None
    assert series_on(grid).on_grid(Volume(np.zeros(SHAPE), grid)) is not None
