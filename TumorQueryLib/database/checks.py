"""What the numbers of a database have to be, checked before compiled code sees them.

Compiled code follows offsets and indices without looking, so a number that is out of range would
have it read and write outside its arrays. What is in range and belongs together is taken as it
is: that it is also what was written, only `TumorDatabase.verify` can tell.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from TumorQueryLib.database.masks import BLOCK_EDGE, LONGEST_RUN, BlockCounts, RunLengthMasks, block_grid_shape
from TumorQueryLib.database.schema import ParameterTable, damaged

#: Far beyond both priors: infiltration lengths reach 27 mm there and rho T 300.
LONGEST_INFILTRATION_MM = 100.0
LARGEST_RHO_T = 2000.0
#: D T of a tumour that only spreads, mm^2.
LARGEST_SPREAD = 1e4
FARTHEST_SEED_MM = 1e5


def can_be_grown(diffusivity: ArrayLike, proliferation: ArrayLike, duration: ArrayLike) -> NDArray[np.bool_]:
    """Whether a tumour has such parameters (mm^2/day, 1/day, day), and a solver comes to an end with them."""
    spread, growth, time = (np.asarray(values, np.float64) for values in (diffusivity, proliferation, duration))
    # Comparisons that hold, not such that fail: nothing compares with NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        grows = (growth > 0) & (spread <= growth * LONGEST_INFILTRATION_MM**2) & (growth * time <= LARGEST_RHO_T)
        spreads = (growth == 0) & (spread * time <= LARGEST_SPREAD)
        return (spread > 0) & (time > 0) & np.isfinite(time) & np.isfinite(growth) & (grows | spreads)


def check_parameters(path: Path, parameters: ParameterTable) -> None:
    """Refuse parameters that no tumour has, or that a solver would not come to an end with.

    Raises
    ------
    DatabaseError
    """
    spread, growth, duration = parameters.diffusivity, parameters.proliferation, parameters.duration
    fine = can_be_grown(spread, growth, duration)
    if not fine.all():
        entry = int(np.argmin(fine))
        raise damaged(
            path,
            f"entry {entry} has diffusivity {spread[entry]:g}, proliferation {growth[entry]:g} and duration "
            f"{duration[entry]:g}, which no simulated tumour has",
        )
    if not (np.abs(parameters.seed) <= FARTHEST_SEED_MM).all():
        raise damaged(path, "a seed is no place in a head")
    if (parameters.trajectory < 0).any():
        raise damaged(path, "its trajectories are not numbered from 0")


def check_offsets(path: Path, offsets: NDArray[np.int64], rows: int) -> None:
    """Refuse offsets that would send compiled code out of an array of that many rows.

    Raises
    ------
    DatabaseError
    """
    if offsets[0] != 0 or offsets[-1] != rows or (offsets[1:] < offsets[:-1]).any():
        raise damaged(path, "its offsets do not fit its entries")


def check_volumes(
    path: Path, volume: NDArray[np.int64], offsets: NDArray[np.int64], grid_shape: tuple[int, int, int]
) -> None:
    """Refuse volumes that masks of so many runs on this grid cannot have; the offsets are checked.

    Raises
    ------
    DatabaseError
    """
    runs = np.diff(offsets)
    # A run ends with its row, and is not longer than a byte counts.
    most = np.minimum(runs * min(LONGEST_RUN, grid_shape[2]), math.prod(grid_shape))
    if ((volume < runs) | (volume > most)).any():
        entry = int(np.argmax((volume < runs) | (volume > most)))
        raise damaged(path, f"the volume of entry {entry} does not fit its mask")


def check_blocks(path: Path, blocks: BlockCounts, masks: RunLengthMasks) -> None:
    """Refuse block counts that do not fit the grid or the volumes of the masks they belong to.

    Raises
    ------
    DatabaseError
    """
    check_offsets(path, blocks.offsets, len(blocks.index))
    if len(blocks.index) and blocks.index.max() >= math.prod(block_grid_shape(masks.grid_shape)):
        raise damaged(path, "its block counts do not fit its grid")
    counted = np.concatenate([[0], np.cumsum(blocks.count, dtype=np.int64)])
    fits = np.diff(counted[blocks.offsets]) == masks.volume
    # Within an entry blocks are in order, each once, and none is empty.
    ordered = np.ones(len(blocks.index) + 1, np.bool_)
    ordered[1:-1] = blocks.index[1:] > blocks.index[:-1]
    ordered[blocks.offsets] = True
    if not (fits.all() and ordered.all() and (blocks.count > 0).all() and (blocks.count <= BLOCK_EDGE**3).all()):
        raise damaged(path, "its block counts do not fit its volumes")
