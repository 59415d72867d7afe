"""DS64 and DS32: the best Dice of downsampled masks (paper, section 2.3).

The paper downsamples 128^3 masks to 64^3 and 32^3 by spline interpolation of order 0,
which is `scipy.ndimage.zoom`: it takes, along each axis, the voxel nearest to a
regular lattice that holds the first and the last voxel. Nothing is averaged, so a
run-length mask stays one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.base.compiled import njit
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.database.masks import BATCH_ENTRIES, BlockCounts, RunLengthMasks, RunsInMemory, batches
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies.base import register_strategy
from TumorQueryLib.strategies.direct import Direct
from TumorQueryLib.strategies.embedding import ApproximateStrategy

if TYPE_CHECKING:
    from TumorQueryLib.database import TumorDatabase


class DownsampledDatabase:
    """What `Direct` searches of a database, at fewer voxels.

    Parameters
    ----------
    database : TumorDatabase
    factor : int
        By which the number of voxels along each axis is divided, rounded up.
    progress : Progress

    Attributes
    ----------
    lattice : list of ndarray of int64
        Indices of the voxels that are kept, along i, j, k.
    grid : Grid
        Of as many voxels over the same extent from the first voxel's centre to the
        last's. RAS mm.
    core, whole : RunLengthMasks
    core_blocks, whole_blocks : BlockCounts
    """

    def __init__(self, database: TumorDatabase, factor: int, *, progress: Progress = no_progress) -> None:
        self.atlas_name = database.atlas_name
        self.lattice = [sampled_indices(n, -(-n // factor)) for n in database.grid.shape]
        sizes = np.array([len(indices) for indices in self.lattice])
        affine = database.grid.affine.copy()
        affine[:3, :3] *= (np.array(database.grid.shape) - 1) / np.maximum(sizes - 1, 1)
        self.grid = Grid((int(sizes[0]), int(sizes[1]), int(sizes[2])), affine)
        self.core = downsample(database.core, self.lattice, progress=part(progress, 0.0, 0.3))
        self.whole = downsample(database.whole, self.lattice, progress=part(progress, 0.3, 0.6))
        self.core_blocks = BlockCounts.of(self.core, progress=part(progress, 0.6, 0.8))
        self.whole_blocks = BlockCounts.of(self.whole, progress=part(progress, 0.8, 1.0))

    def __len__(self) -> int:
        return len(self.whole)

    def downsample(self, masks: TumorMasks) -> TumorMasks:
        """A query at the same voxels."""
        voxels = np.ix_(*self.lattice)
        return TumorMasks(masks.core[voxels], masks.whole[voxels], self.grid)


class _Downsampled(ApproximateStrategy):
    """Ranks by the Dice of both downsampled masks, added, by the bounds of `direct`.

    Parameters
    ----------
    database : TumorDatabase
        Its masks are downsampled when the strategy is made, in seconds for 50,000 entries.
    rerank : int
        Put so many of the best in the order of their exact Dice.
    progress : Progress
    """

    factor: ClassVar[int]

    def __init__(self, database: TumorDatabase, *, rerank: int = 0, progress: Progress = no_progress) -> None:
        super().__init__(database, rerank=rerank)
        self.downsampled = DownsampledDatabase(database, self.factor, progress=progress)
        self._search = Direct(self.downsampled)

    def best(self, masks: TumorMasks, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """See `ApproximateStrategy.best`."""
        matches = self._search.query(self.downsampled.downsample(masks), count)
        return np.array([m.entry for m in matches]), np.array([m.dice_sum for m in matches])


@register_strategy("ds64")
class DownsampledByTwo(_Downsampled):
    """DS64: every other voxel along each axis, 64^3 of 128^3."""

    name = "ds64"
    factor = 2


@register_strategy("ds32")
class DownsampledByFour(_Downsampled):
    """DS32: every fourth voxel along each axis, 32^3 of 128^3."""

    name = "ds32"
    factor = 4


def sampled_indices(size: int, wanted: int) -> NDArray[np.int64]:
    """Indices that a spline interpolation of order 0 takes along an axis, int64, shape (wanted,).

    Of `size` voxels, those nearest to `wanted` regular places from the first to the
    last voxel, as `scipy.ndimage.zoom` has it by default.
    """
    return ndimage.zoom(np.arange(size), wanted / size, order=0, mode="nearest").astype(np.int64)


def downsample(
    masks: RunLengthMasks, lattice: list[NDArray[np.int64]], *, progress: Progress = no_progress
) -> RunLengthMasks:
    """Run-length masks at the voxels lattice[0] x lattice[1] x lattice[2], each strictly ascending."""
    shape = (len(lattice[0]), len(lattice[1]), len(lattice[2]))
    rows_i, rows_j = (np.full(n, -1, np.int64) for n in masks.grid_shape[:2])
    rows_i[lattice[0]] = np.arange(shape[0])
    rows_j[lattice[1]] = np.arange(shape[1])
    # Sampled voxels before each index along k: a run keeps those between its ends.
    before = np.searchsorted(lattice[2], np.arange(masks.grid_shape[2] + 1))
    offsets = np.zeros(len(masks) + 1, np.int64)
    volume = np.zeros(len(masks), np.int64)
    starts, lengths = [], []
    for entries in batches(len(masks), BATCH_ENTRIES):
        progress(entries[0] / len(masks), f"Downsampling to {' x '.join(map(str, shape))} voxels")
        selected = masks.source.select(entries)
        runs = int((masks.offsets[entries + 1] - masks.offsets[entries]).sum())
        batch_starts, batch_lengths = np.empty(runs, np.uint32), np.empty(runs, np.uint8)
        counts = np.zeros(len(entries), np.int64)
        grid = np.array([*masks.grid_shape[1:], *shape[1:]])
        _sample_runs(*selected, grid, rows_i, rows_j, before, batch_starts, batch_lengths, counts, volume[entries[0] :])
        offsets[entries + 1] = counts
        starts.append(batch_starts[: counts.sum()].copy())
        lengths.append(batch_lengths[: counts.sum()].copy())
    np.cumsum(offsets, out=offsets)
    source = RunsInMemory(offsets, np.concatenate(starts), np.concatenate(lengths))
    return RunLengthMasks(shape, offsets, volume, source)


@njit(cache=True, nogil=True)
def _sample_runs(rows, offsets, starts, lengths, grid, rows_i, rows_j, before, new_starts, new_lengths, counts, volume):
    size_j, size_k, new_size_j, new_size_k = grid
    written = 0
    for n in range(rows.size):
        first = written
        for run in range(offsets[rows[n]], offsets[rows[n] + 1]):
            start = np.int64(starts[run])
            row = start // size_k
            k = start - row * size_k
            i = rows_i[row // size_j]
            j = rows_j[row % size_j]
            begin = before[k]
            length = before[k + np.int64(lengths[run])] - begin
            if i < 0 or j < 0 or length == 0:
                continue
            new_starts[written] = (i * new_size_j + j) * new_size_k + begin
            new_lengths[written] = length
            volume[n] += length
            written += 1
        counts[n] = written - first
