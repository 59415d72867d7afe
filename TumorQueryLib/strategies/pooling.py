"""Masks averaged over cubes of voxels: the input of the networks and of the random projection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from TumorQueryLib.base.compiled import njit
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.database.masks import BATCH_ENTRIES, RunLengthMasks, batches


@dataclass(frozen=True)
class Pooling:
    """Averages masks over cubes of `factor`^3 voxels inside a box of such cells.

    Parameters
    ----------
    factor : int
        Edge of a cell in voxels.
    start, shape : tuple of int
        First cell and number of cells along i, j, k. Voxels outside the box do not
        count; cells of the box outside the grid are empty.
    """

    factor: int
    start: tuple[int, int, int]
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        if self.factor < 1 or len(self.start) != 3 or len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(
                f"A pooling needs a positive factor and a box, not {self.factor}, {self.start}, {self.shape}."
            )

    @classmethod
    def around(cls, masks: RunLengthMasks, factor: int, divisor: int = 1) -> Pooling:
        """The box of cells around all masks, one cell wider on every side.

        Its sizes are divisible by `divisor`, as a network with strides needs it.
        """
        shape = np.array(masks.grid_shape, np.int64)
        low, high = shape.copy(), np.full(3, -1, np.int64)
        for entries in batches(len(masks), BATCH_ENTRIES):
            _widen_bounds(*masks.source.select(entries), shape, low, high)
        if (high < low).any():
            low, high = np.zeros(3, np.int64), shape - 1
        start = low // factor - 1
        size = -(-(high // factor + 2 - start) // divisor) * divisor
        return cls(factor, tuple(start.tolist()), tuple(size.tolist()))

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(np.prod(self.shape))

    def counts(self, masks: RunLengthMasks, entries: ArrayLike) -> NDArray[np.uint8]:
        """Voxels of each mask in each cell.

        Parameters
        ----------
        masks : RunLengthMasks
        entries : array_like of int, shape (n,)

        Returns
        -------
        ndarray of uint8 (uint16 where a cell has more than 255 voxels), shape (n, *shape)
        """
        entries = np.asarray(entries, dtype=np.int64)
        dtype = np.uint8 if self.factor**3 <= 255 else np.uint16
        counts = np.zeros((len(entries), *self.shape), dtype)
        shape = np.array(masks.grid_shape, np.int64)
        _count_runs(*masks.source.select(entries), shape, self.factor, np.array(self.start, np.int64), counts)
        return counts

    def shares(self, masks: RunLengthMasks, entries: ArrayLike) -> NDArray[np.float32]:
        """Share of each cell that each mask fills, float32 in [0, 1], shape (n, *shape)."""
        return self.counts(masks, entries).astype(np.float32) * np.float32(1 / self.factor**3)

    def shares_of(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Share of each cell that one mask fills, float32 in [0, 1], shape `shape`."""
        counts = np.zeros(self.shape, np.int64)
        _count_voxels(np.ascontiguousarray(mask), self.factor, np.array(self.start, np.int64), counts)
        return counts.astype(np.float32) * np.float32(1 / self.factor**3)


@njit(cache=True, nogil=True)
def _widen_bounds(rows, offsets, starts, lengths, shape, low, high):
    for place in range(rows.size):
        for run in range(offsets[rows[place]], offsets[rows[place] + 1]):
            row, k = divmod(np.int64(starts[run]), shape[2])
            i, j = divmod(row, shape[1])
            low[0], high[0] = min(low[0], i), max(high[0], i)
            low[1], high[1] = min(low[1], j), max(high[1], j)
            low[2], high[2] = min(low[2], k), max(high[2], k + np.int64(lengths[run]) - 1)


@njit(cache=True, nogil=True)
def _count_runs(rows, offsets, starts, lengths, shape, factor, first, counts):
    for place in range(rows.size):
        for run in range(offsets[rows[place]], offsets[rows[place] + 1]):
            row, k = divmod(np.int64(starts[run]), shape[2])
            i, j = divmod(row, shape[1])
            i = i // factor - first[0]
            j = j // factor - first[1]
            if i < 0 or j < 0 or i >= counts.shape[1] or j >= counts.shape[2]:
                continue
            stop = k + np.int64(lengths[run])
            while k < stop:
                cell = k // factor
                after = min(stop, (cell + 1) * factor)
                cell -= first[2]
                if 0 <= cell < counts.shape[3]:
                    counts[place, i, j, cell] += after - k
                k = after


@njit(cache=True, nogil=True)
def _count_voxels(mask, factor, first, counts):
    shape = mask.shape
    for i in range(max(0, first[0] * factor), min(shape[0], (first[0] + counts.shape[0]) * factor)):
        for j in range(max(0, first[1] * factor), min(shape[1], (first[1] + counts.shape[1]) * factor)):
            row = mask[i, j]
            for k in range(max(0, first[2] * factor), min(shape[2], (first[2] + counts.shape[2]) * factor)):
                if row[k]:
                    counts[i // factor - first[0], j // factor - first[1], k // factor - first[2]] += 1
