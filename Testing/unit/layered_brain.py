"""A brain of three layers whose tissue is known in every place, as maps, as an atlas and as a T1."""

import numpy as np

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.geometry.grid import Grid, Volume

#: A ball of brain: white matter in the middle, a ribbon of grey matter, CSF around it, and a ventricle of CSF.
GRID = Grid.isotropic(80, 1.5, (12.0, -20.0, 30.0))
BRAIN, CORTEX, WHITE, VENTRICLE = 54.0, 49.0, 38.0, 13.0
INTENSITY = {"white": 300.0, "grey": 220.0, "csf": 90.0}
#: By how much (mm) the atlas's anatomy lies beside the patient's.
OFF = np.array([3.0, -2.0, 1.0])


def points_of(grid):
    return grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))


def painted(grid, shift=0.0):
    """White matter, grey matter, CSF in [0, 1] at the voxels of a grid, with edges a voxel wide."""
    centre = GRID.centre + shift
    distance = np.linalg.norm(points_of(grid) - centre, axis=-1)
    of_ventricle = np.linalg.norm(points_of(grid) - centre - [0.0, 12.0, 0.0], axis=-1)

    def within(values, radius):
        return np.clip((radius - values) / 1.5 + 0.5, 0, 1)

    ventricle = within(of_ventricle, VENTRICLE)
    white = within(distance, WHITE) * (1 - ventricle)
    grey = within(distance, CORTEX) - within(distance, WHITE)
    csf = within(distance, BRAIN) - white - grey
    return [m.astype(np.float32) for m in (white, grey, csf)]


def scanned(grid, *, noise=6.0, bias=0.2, intensity=INTENSITY, random_seed=0):
    """A T1 of that brain without skull; the bias field rises along a diagonal."""
    random = np.random.default_rng(random_seed)
    white, grey, csf = painted(grid)
    values = intensity["white"] * white + intensity["grey"] * grey + intensity["csf"] * csf
    along = ((points_of(grid) - GRID.centre) / BRAIN) @ [0.6, 0.6, 0.5]
    values = values * (1 + bias * along) + noise * random.standard_normal(grid.shape)
    return Volume(np.where(white + grey + csf > 0.5, np.maximum(values, 1), 0).astype(np.float32), grid)


def ball(grid, radius, place=(-28.0, -8.0, 6.0)):
    return Volume(np.linalg.norm(points_of(grid) - GRID.centre - place, axis=-1) < radius, grid)


def layered_atlas():
    """The brain as an atlas, which lies `OFF` beside the patient's."""
    maps = painted(GRID, OFF)
    t1 = sum(value * m for value, m in zip(INTENSITY.values(), maps))
    return Atlas("layers", GRID, *maps, Volume(t1, GRID), "CC0", "made for tests")
