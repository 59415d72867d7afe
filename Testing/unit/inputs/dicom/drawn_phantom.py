"""A ball of tumour in a head, on a grid as scanners have them, and how masks are compared across grids."""

from dataclasses import dataclass

import numpy as np
from awkward_grids import centred_grid, placed_affine

from TumorQueryLib.geometry.grid import Grid

#: Grids of an axial oblique series, a sagittal left-handed one and one of thick slices: shape, affine.
SERIES = {
    "axial oblique": ((72, 64, 40), placed_affine((1.5, 1.5, 2.5), (12.0, -8.0, 20.0), (-1, -1, 1))),
    "sagittal left-handed": ((60, 64, 44), placed_affine((1.6, 1.6, 2.4), (5.0, 8.0, -12.0), (1, -1, 1), (1, 2, 0))),
    "thick slices": ((96, 80, 20), placed_affine((1.0, 1.2, 5.0), (-6.0, 4.0, 3.0), (-1, 1, 1))),
}
CENTRE = np.array([10.0, -6.0, 5.0])


@dataclass
class Drawn:
    grid: Grid
    image: np.ndarray
    masks: dict[str, np.ndarray]


def drawn_phantom(name: str) -> Drawn:
    """A head with a tumour: neoplasm, necrosis in it (not everywhere on its slices), oedema around it."""
    shape, affine = SERIES[name]
    grid = centred_grid(shape, affine)
    points = grid.to_ras(np.moveaxis(np.indices(shape), 0, -1))
    distance = np.linalg.norm((points - CENTRE) / [1.0, 1.2, 0.9], axis=-1)
    core = distance < 15
    necrosis = np.linalg.norm(points - CENTRE - [3.0, 2.0, 1.0], axis=-1) < 8
    whole = distance < 24
    head = np.linalg.norm(points / [38.0, 40.0, 42.0], axis=-1) < 1
    waves = 40 * np.sin(points / 7).sum(axis=-1)
    image = np.where(head, 400 + waves + 200 * core + 80 * whole, 0).clip(0).astype(np.uint16)
    return Drawn(grid, image, {"Neoplasm": core & ~necrosis, "Necrosis": necrosis & core, "Edema": whole & ~core})


def dice_across(mask, grid, expected, expected_grid) -> float:
    """Dice of a mask with another whose voxels lie at voxels of the first one's grid, or beyond it."""
    index = grid.to_index(expected_grid.to_ras(np.argwhere(expected)))
    assert np.abs(index - np.rint(index)).max() < 0.05, "the voxels do not lie on one another"
    index = np.rint(index).astype(int)
    inside = ((index >= 0) & (index < grid.shape)).all(axis=1)
    common = np.count_nonzero(mask[tuple(index[inside].T)])
    return 2 * common / (np.count_nonzero(mask) + len(index))
