"""Joint draws of a density: whole volumes that the outlines leave possible, kept as a few factors."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.estimates.kriging import Kriging
from TumorQueryLib.estimates.outlines import density_of_log_odds
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.regions import bounding_box, slices_between

#: mm between the nodes of the discrepancy; its correlation reaches 15 mm.
NODE_SPACING = 4.5


#: What NumPy and the archive's parts raise for a file that is not one, or is not whole.
UNREADABLE = (OSError, EOFError, ValueError, LookupError, TypeError, zipfile.BadZipFile, zlib.error, InputError)


@dataclass(frozen=True, eq=False)
class DensityDraws:
    """Densities drawn together for all voxels: those of a draw go up and down with their neighbours.

    The log-odds of draw n in a tissue voxel are `log_odds` + `parameters[n]` . `jacobian` + `discrepancy[n]`, the last
    interpolated between nodes by cubic splines. They lie in the model's anatomy, and are not held to the outlines:
    `drawn_densities` of a result takes them to the patient and holds them.

    Parameters
    ----------
    grid : Grid
        Around the cells that vary, part of the model's anatomy's grid.
    cells : ndarray of bool, shape grid.shape
        Where densities vary. Elsewhere on the grid they are 0.
    log_odds : ndarray of float16, shape (cells,)
    jacobian : ndarray of float16, shape (k, cells)
        Change of the log-odds with each standardised parameter.
    parameters : ndarray of float32, shape (draws, k)
        Standard normal.
    discrepancy : ndarray of float16, shape (draws, nodes along i, j, k)
        Log-odds at nodes that begin at the grid's first voxel, `stride` voxels apart.
    stride : int
    """

    grid: Grid
    cells: NDArray[np.bool_]
    log_odds: NDArray[np.float16]
    jacobian: NDArray[np.float16]
    parameters: NDArray[np.float32]
    discrepancy: NDArray[np.float16]
    stride: int

    @classmethod
    def made(
        cls,
        anatomy: Anatomy,
        log_odds: NDArray[np.float32],
        cells: NDArray[np.bool_],
        jacobian: NDArray[np.float32],
        field: Kriging,
        share: NDArray[np.float32],
        deviation: float,
        count: int,
        random: np.random.Generator,
    ) -> DensityDraws:
        """Draw: parameters from their normal distribution, the discrepancy from its field (see `Uncertainty`).

        `log_odds`, `cells` and `share` have the shape of the anatomy's grid.
        """
        start, stop = bounding_box(cells)
        grid, box = anatomy.grid.cropped(start, stop), slices_between(start, stop)
        stride = max(1, round(NODE_SPACING / anatomy.length_scale / float(grid.spacing.min())))
        shape = -(-(stop - 1 - start) // stride) + 1
        nodes = stride * np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
        parameters = random.standard_normal((count, len(jacobian))).astype(np.float32)
        # Nodes end up to a stride beyond the grid.
        at_nodes = ndimage.map_coordinates(share, (start + nodes).T, order=1, mode="nearest")
        discrepancy = deviation * field.draw(grid.to_ras(nodes), count, random, at_nodes)
        return cls(
            grid=grid,
            cells=cells[box],
            log_odds=log_odds[cells].astype(np.float16),
            jacobian=jacobian.astype(np.float16),
            parameters=parameters,
            discrepancy=discrepancy.reshape(count, *shape).astype(np.float16),
            stride=stride,
        )

    def __len__(self) -> int:
        return len(self.parameters)

    def __iter__(self) -> Iterator[Volume]:
        """The densities one after the other, as `density` gives them."""
        return (self.density(number) for number in range(len(self)))

    def density(self, number: int) -> Volume:
        """A drawn density, float32 in [0, 1], on `grid`: in the model's anatomy.

        Raises
        ------
        IndexError
            When there is no such draw.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"There are {len(self)} draws, numbered from 0; there is no {number}.")
        index = np.argwhere(self.cells).T / self.stride
        drawn = self.log_odds.astype(np.float32) + self.parameters[number] @ self.jacobian.astype(np.float32)
        drawn += ndimage.map_coordinates(self.discrepancy[number].astype(np.float32), index, order=3)
        density = np.zeros(self.grid.shape, np.float32)
        density[self.cells] = density_of_log_odds(drawn)
        return Volume(density, self.grid)

    def save(self, path: Path) -> None:
        """Write as a compressed NumPy archive."""
        np.savez_compressed(
            path,
            affine=self.grid.affine,
            shape=np.array(self.grid.shape),
            cells=np.packbits(self.cells),
            log_odds=self.log_odds,
            jacobian=self.jacobian,
            parameters=self.parameters,
            discrepancy=self.discrepancy,
            stride=np.array(self.stride),
        )

    @classmethod
    def load(cls, path: Path) -> DensityDraws:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            When the file is none of those.
        """
        try:
            with np.load(path, allow_pickle=False) as held:
                i, j, k = (int(n) for n in held["shape"])
                if not 0 < i * j * k <= 8 * held["cells"].size or len(held["jacobian"]) != held["parameters"].shape[1]:
                    raise ValueError("the parts do not fit one another")
                cells = np.unpackbits(held["cells"], count=i * j * k).astype(bool).reshape(i, j, k)
                return cls(
                    grid=Grid((i, j, k), held["affine"]),
                    cells=cells,
                    log_odds=held["log_odds"],
                    jacobian=held["jacobian"],
                    parameters=held["parameters"],
                    discrepancy=held["discrepancy"],
                    stride=int(held["stride"]),
                )
        except UNREADABLE as error:
            raise InputError(f"{path.name} holds no draws of a density; run the inference again.") from error
