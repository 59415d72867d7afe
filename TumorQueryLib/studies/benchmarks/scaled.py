"""A database with another number of entries: some of them, or shifted copies, in memory."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from TumorQueryLib.database.masks import RunLengthMasks, RunsInMemory, block_grid_shape, count_blocks
from TumorQueryLib.database.store import BlockCounts, TumorDatabase


class ScaledDatabase(SimpleNamespace):
    """What the strategies use of a database, in memory."""

    def __len__(self) -> int:
        return len(self.core)


def shifted_copies(database: TumorDatabase, entries: NDArray[np.int64], shifts: NDArray[np.int64]) -> ScaledDatabase:
    """Some entries of a database, once for each shift (voxels, shape (copies, 3))."""
    scaled = ScaledDatabase(grid=database.grid, atlas_name=database.atlas_name)
    for name, masks in (("core", database.core), ("whole", database.whole)):
        shape = masks.grid_shape
        rows, offsets, starts, lengths = masks.source.select(entries)
        size = int((offsets[rows + 1] - offsets[rows]).sum())
        new_starts = np.empty(size * len(shifts), np.uint32)
        new_lengths = np.empty(size * len(shifts), np.uint8)
        new_offsets = np.zeros(len(entries) * len(shifts) + 1, np.int64)
        _shift_runs(rows, offsets, starts, lengths, shifts, np.array(shape), new_starts, new_lengths, new_offsets)
        copied = RunsInMemory(new_offsets, new_starts, new_lengths)
        ends = np.zeros(new_offsets[-1] + 1, np.int64)
        np.cumsum(new_lengths[: new_offsets[-1]], out=ends[1:])
        volume = ends[new_offsets[1:]] - ends[new_offsets[:-1]]
        blocks = np.array(block_grid_shape(shape))
        most = int(np.prod(blocks))
        block_offsets = np.zeros(len(volume) + 1, np.int64)
        _sparse_blocks(new_offsets, new_starts, new_lengths, np.array(shape), blocks, most, block_offsets, None, None)
        index = np.empty(block_offsets[-1], np.uint16)
        count = np.empty(block_offsets[-1], np.uint16)
        _sparse_blocks(new_offsets, new_starts, new_lengths, np.array(shape), blocks, most, block_offsets, index, count)
        setattr(scaled, name, RunLengthMasks(shape, new_offsets, volume, copied))
        setattr(scaled, f"{name}_blocks", BlockCounts(block_offsets, index, count))
    return scaled


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


@njit(cache=True, nogil=True)
def _sparse_blocks(offsets, starts, lengths, shape, blocks, size, block_offsets, index, count):
    counts = np.zeros(size, np.int32)
    for entry in range(offsets.size - 1):
        counts[:] = 0
        runs = slice(offsets[entry], offsets[entry + 1])
        count_blocks(starts[runs], lengths[runs], shape[1], shape[2], blocks[1], blocks[2], counts)
        place = block_offsets[entry]
        for block in range(size):
            if counts[block]:
                if index is not None:
                    index[place] = block
                    count[place] = counts[block]
                place += 1
        block_offsets[entry + 1] = place
