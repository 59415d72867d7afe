"""A database with another number of entries: some of them, or shifted copies, in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.compiled import njit
from TumorQueryLib.database.masks import BlockCounts, RunLengthMasks, RunsInMemory
from TumorQueryLib.database.store import TumorDatabase
from TumorQueryLib.geometry.grid import Grid


@dataclass(frozen=True, eq=False)
class ScaledDatabase:
    """A `Searchable` in memory."""

    grid: Grid
    atlas_name: str
    core: RunLengthMasks
    whole: RunLengthMasks
    core_blocks: BlockCounts
    whole_blocks: BlockCounts

    def __len__(self) -> int:
        return len(self.core)


def shifted_copies(database: TumorDatabase, entries: NDArray[np.int64], shifts: NDArray[np.int64]) -> ScaledDatabase:
    """Some entries of a database, once for each shift (voxels, shape (copies, 3))."""
    core, whole = (_shifted_masks(masks, entries, shifts) for masks in (database.core, database.whole))
    blocks = (BlockCounts.of(core), BlockCounts.of(whole))
    return ScaledDatabase(database.grid, database.atlas_name, core, whole, *blocks)


def _shifted_masks(masks: RunLengthMasks, entries: NDArray[np.int64], shifts: NDArray[np.int64]) -> RunLengthMasks:
    shape = masks.grid_shape
    rows, offsets, starts, lengths = masks.source.select(entries)
    size = int((offsets[rows + 1] - offsets[rows]).sum())
    new_starts = np.empty(size * len(shifts), np.uint32)
    new_lengths = np.empty(size * len(shifts), np.uint8)
    new_offsets = np.zeros(len(entries) * len(shifts) + 1, np.int64)
    _shift_runs(rows, offsets, starts, lengths, shifts, np.array(shape), new_starts, new_lengths, new_offsets)
    ends = np.zeros(new_offsets[-1] + 1, np.int64)
    np.cumsum(new_lengths[: new_offsets[-1]], out=ends[1:])
    volume = ends[new_offsets[1:]] - ends[new_offsets[:-1]]
    return RunLengthMasks(shape, new_offsets, volume, RunsInMemory(new_offsets, new_starts, new_lengths))


@njit(cache=True, nogil=True)
def _shift_runs(rows, offsets, starts, lengths, shifts, shape, new_starts, new_lengths, new_offsets):
    written = 0
    entry = 0
    for copy in range(shifts.shape[0]):
        for row in rows:
            for run in range(offsets[row], offsets[row + 1]):
                start = np.int64(starts[run])
                line = start // shape[2]
                i = line // shape[1] + shifts[copy, 0]
                j = line % shape[1] + shifts[copy, 1]
                k = start % shape[2] + shifts[copy, 2]
                stop = min(k + np.int64(lengths[run]), shape[2])
                k = max(k, 0)
                if 0 <= i < shape[0] and 0 <= j < shape[1] and k < stop:
                    new_starts[written] = (i * shape[1] + j) * shape[2] + k
                    new_lengths[written] = stop - k
                    written += 1
            entry += 1
            new_offsets[entry] = written
