"""Run-length coded masks: every entry's regions without loss, and their overlap with a query.

A run is a stretch of set voxels within one row along k: its `start` is the flat index
of its first voxel (row-major in [i, j, k]), its `length` at most 255, so that it fits
a byte. The overlap of a coded mask with a query costs two look-ups a run in the
query's running count; nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.compiled import njit
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.geometry.grid import Grid

LONGEST_RUN = 255
#: Size of a run: its start and its length.
RUN_BYTES = 5
#: Edge in voxels of the cubic blocks whose counts bound the overlap of two masks.
BLOCK_EDGE = 16
#: Entries whose runs are taken from their source at once.
BATCH_ENTRIES = 2048


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs of one mask.

    Parameters
    ----------
    starts : ndarray of uint32, shape (runs,)
        Flat index of each run's first voxel, ascending.
    lengths : ndarray of uint8, shape (runs,)
        Voxels of each run, 1 to 255, all in one row along k.
    """

    starts: NDArray[np.uint32]
    lengths: NDArray[np.uint8]

    @property
    def volume(self) -> int:
        """Number of voxels."""
        return int(self.lengths.sum(dtype=np.int64))


def encode_mask(
    mask: NDArray[np.bool_],
    grid_shape: tuple[int, int, int] | None = None,
    corner: tuple[int, int, int] = (0, 0, 0),
) -> Runs:
    """Code a mask by its runs.

    Parameters
    ----------
    mask : ndarray of bool, 3-D
        The mask, or the part of it inside a box.
    grid_shape : tuple of int, optional
        Shape of the whole grid; by default that of `mask`.
    corner : tuple of int
        Index in the grid of the box's first voxel.
    """
    shape = mask.shape if grid_shape is None else grid_shape
    if mask.ndim != 3 or any(c < 0 or c + n > s for c, n, s in zip(corner, mask.shape, shape)):
        raise InputError(f"A box of shape {mask.shape} at {corner} does not lie in a grid of shape {shape}.")
    if np.prod(shape, dtype=np.int64) >= 2**32:
        raise InputError(f"A grid of shape {shape} has more voxels than run-length masks can number (2^32).")
    box = np.ascontiguousarray(mask, dtype=np.bool_).view(np.uint8)
    count = _count_runs(box)
    starts = np.empty(count, dtype=np.uint32)
    lengths = np.empty(count, dtype=np.uint8)
    _write_runs(box, corner[0], corner[1], corner[2], shape[1], shape[2], starts, lengths)
    return Runs(starts, lengths)


def decode_runs(runs: Runs, grid_shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """The mask of the given runs, bool, shape grid_shape."""
    mask = np.zeros(grid_shape, dtype=np.bool_)
    _set_runs(runs.starts, runs.lengths, mask.reshape(-1))
    return mask


def block_grid_shape(grid_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Number of blocks of BLOCK_EDGE^3 voxels along i, j, k; the last ones may be cut."""
    i, j, k = (-(-n // BLOCK_EDGE) for n in grid_shape)
    return i, j, k


class RunningCount:
    """A query mask, prepared for overlaps with run-length masks.

    `table[n]` is the number of set voxels before flat index n, modulo 256: a run has at
    most 255 voxels, so the difference of two entries, modulo 256, is its exact overlap,
    and the table stays small enough for the processor's cache.

    Parameters
    ----------
    mask : ndarray of bool, 3-D
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        voxels = np.ascontiguousarray(mask, dtype=np.bool_).view(np.uint8)
        blocks = block_grid_shape(mask.shape)  # type: ignore[arg-type]
        self.table = np.empty(mask.size + 1, dtype=np.uint8)
        #: Set voxels in each block of BLOCK_EDGE^3 voxels, flat and row-major over the blocks.
        self.blocks = np.zeros(int(np.prod(blocks)), dtype=np.int32)
        #: Number of set voxels.
        self.volume = int(_running_count(voxels, blocks[1], blocks[2], self.table, self.blocks))


class RunSource(Protocol):
    """Where the runs of many masks come from: memory, or a file that is read piece by piece."""

    def select(
        self, entries: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint8]]:
        """Make the runs of the given entries available.

        Returns
        -------
        rows, offsets, starts, lengths
            The runs of entries[n] are starts[offsets[rows[n]] : offsets[rows[n] + 1]], and
            likewise lengths.
        """
        ...


class RunsInMemory:
    """A source of runs that are all in memory."""

    def __init__(self, offsets: NDArray[np.int64], starts: NDArray[np.uint32], lengths: NDArray[np.uint8]) -> None:
        self.offsets, self.starts, self.lengths = offsets, starts, lengths

    def select(
        self, entries: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint8]]:
        """See `RunSource`."""
        return entries, self.offsets, self.starts, self.lengths


class RunLengthMasks:
    """The masks of one region for every entry, run-length coded.

    Parameters
    ----------
    grid_shape : tuple of int
    offsets : ndarray of int64, shape (N + 1,)
        The runs of entry n are offsets[n] to offsets[n + 1].
    volume : ndarray of int64, shape (N,)
        Voxels of each entry.
    source : RunSource
        Where the runs are.
    """

    def __init__(
        self,
        grid_shape: tuple[int, int, int],
        offsets: NDArray[np.int64],
        volume: NDArray[np.int64],
        source: RunSource,
    ) -> None:
        self.grid_shape = grid_shape
        self.offsets = offsets
        self.volume = volume
        self.source = source

    @classmethod
    def from_masks(cls, masks: Sequence[NDArray[np.bool_]], grid_shape: tuple[int, int, int]) -> RunLengthMasks:
        """Code a list of boolean arrays of shape grid_shape."""
        return cls.from_runs([encode_mask(mask) for mask in masks], grid_shape)

    @classmethod
    def from_runs(cls, coded: Sequence[Runs], grid_shape: tuple[int, int, int]) -> RunLengthMasks:
        """Join masks that are coded already."""
        offsets = np.zeros(len(coded) + 1, dtype=np.int64)
        np.cumsum([runs.starts.size for runs in coded], out=offsets[1:])
        starts = np.concatenate([runs.starts for runs in coded] or [np.empty(0, np.uint32)])
        lengths = np.concatenate([runs.lengths for runs in coded] or [np.empty(0, np.uint8)])
        volume = np.array([runs.volume for runs in coded], dtype=np.int64)
        return cls(grid_shape, offsets, volume, RunsInMemory(offsets, starts, lengths))

    def __len__(self) -> int:
        return self.volume.size

    def runs(self, entry: int) -> Runs:
        """The runs of one entry; IndexError where there is no such entry."""
        if not 0 <= entry < len(self):
            raise IndexError(f"entry {entry} of {len(self)}")
        rows, offsets, starts, lengths = self.source.select(np.array([entry], dtype=np.int64))
        piece = slice(offsets[rows[0]], offsets[rows[0] + 1])
        return Runs(starts[piece], lengths[piece])

    def decode(self, entry: int) -> NDArray[np.bool_]:
        """The mask of one entry, bool, shape grid_shape, indexed [i, j, k]."""
        return decode_runs(self.runs(entry), self.grid_shape)

    def intersections(self, query: RunningCount, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """Voxels that each of the given entries shares with a query, int64, shape (len(entries),)."""
        rows, offsets, starts, lengths = self.source.select(entries)
        counts = np.empty(len(entries), dtype=np.int64)
        _intersections(rows, offsets, starts, lengths, query.table, counts)
        return counts


@dataclass(frozen=True, eq=False)
class BlockCounts:
    """Set voxels of every entry in each block of BLOCK_EDGE^3 voxels; empty blocks are left out.

    Parameters
    ----------
    offsets : ndarray of int64, shape (N + 1,)
    index : ndarray of uint16
        Flat index of the block, row-major; those of entry n are offsets[n] to offsets[n + 1].
    count : ndarray of uint16
    """

    offsets: NDArray[np.int64]
    index: NDArray[np.uint16]
    count: NDArray[np.uint16]

    @classmethod
    def of(
        cls,
        masks: RunLengthMasks,
        entries: NDArray[np.int64] | None = None,
        *,
        progress: Progress = no_progress,
    ) -> BlockCounts:
        """Count the voxels of masks.

        Parameters
        ----------
        masks : RunLengthMasks
        entries : ndarray of int64, shape (n,), optional
            Numbers of the entries to count, in this order; by default all.
        progress : Progress
        """
        if entries is None:
            entries = np.arange(len(masks))
        shape = np.array(masks.grid_shape, np.int64)
        blocks = np.array(block_grid_shape(masks.grid_shape), np.int64)
        parts = []
        for numbers in batches(len(entries), BATCH_ENTRIES):
            progress(numbers[0] / len(entries), "Counting the masks' voxels")
            runs = masks.source.select(entries[numbers])
            offsets = np.zeros(len(numbers) + 1, np.int64)
            dense = np.empty(int(np.prod(blocks)), np.int32)
            # Once to know how many blocks are occupied, once to write them.
            nothing = np.empty(0, np.uint16)
            _count_blocks(*runs, shape, blocks, dense, offsets, nothing, nothing)
            index, count = np.empty(offsets[-1], np.uint16), np.empty(offsets[-1], np.uint16)
            _count_blocks(*runs, shape, blocks, dense, offsets, index, count)
            parts.append(cls(offsets, index, count))
        return cls.joined(parts)

    @classmethod
    def joined(cls, parts: Sequence[BlockCounts]) -> BlockCounts:
        """The counts of consecutive entries as one."""
        offsets = np.zeros(1 + sum(len(part.offsets) - 1 for part in parts), np.int64)
        np.cumsum(np.concatenate([np.empty(0, np.int64), *(np.diff(part.offsets) for part in parts)]), out=offsets[1:])
        return cls(
            offsets,
            np.concatenate([np.empty(0, np.uint16), *(part.index for part in parts)]),
            np.concatenate([np.empty(0, np.uint16), *(part.count for part in parts)]),
        )

    def of_entry(self, entry: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """The occupied blocks of an entry and the voxels in each."""
        piece = slice(self.offsets[entry], self.offsets[entry + 1])
        return self.index[piece], self.count[piece]


class Searchable(Protocol):
    """What the exact search needs of a database: both regions of every entry, on one grid.

    Attributes
    ----------
    grid : Grid
        RAS mm.
    atlas_name : str
    core, whole : RunLengthMasks
    core_blocks, whole_blocks : BlockCounts
    """

    @property
    def grid(self) -> Grid: ...  # noqa: D102

    @property
    def atlas_name(self) -> str: ...  # noqa: D102

    @property
    def core(self) -> RunLengthMasks: ...  # noqa: D102

    @property
    def whole(self) -> RunLengthMasks: ...  # noqa: D102

    @property
    def core_blocks(self) -> BlockCounts: ...  # noqa: D102

    @property
    def whole_blocks(self) -> BlockCounts: ...  # noqa: D102

    def __len__(self) -> int: ...


def batches(count: int, size: int) -> Iterator[NDArray[np.int64]]:
    """The numbers 0 to count - 1 in pieces of at most `size`."""
    for first in range(0, count, size):
        yield np.arange(first, min(first + size, count))


@njit(cache=True, nogil=True)
def _row_is_empty(row):
    found = np.uint8(0)
    for k in range(row.size):  # no early exit: this loop is vectorised
        found |= row[k]
    return found == 0


@njit(cache=True, nogil=True)
def _count_runs(box):
    count = 0
    for i in range(box.shape[0]):
        for j in range(box.shape[1]):
            row = box[i, j]
            if _row_is_empty(row):
                continue
            length = 0
            for k in range(row.size):
                if row[k] == 0:
                    length = 0
                    continue
                if length == 0 or length == LONGEST_RUN:
                    count += 1
                    length = 0
                length += 1
    return count


@njit(cache=True, nogil=True)
def _write_runs(box, corner_i, corner_j, corner_k, size_j, size_k, starts, lengths):
    run = -1
    for i in range(box.shape[0]):
        for j in range(box.shape[1]):
            row = box[i, j]
            if _row_is_empty(row):
                continue
            first = ((i + corner_i) * size_j + j + corner_j) * size_k + corner_k
            length = 0
            for k in range(row.size):
                if row[k] == 0:
                    length = 0
                    continue
                if length == 0 or length == LONGEST_RUN:
                    run += 1
                    starts[run] = first + k
                    length = 0
                length += 1
                lengths[run] = length


@njit(cache=True, nogil=True)
def _set_runs(starts, lengths, flat):
    for run in range(starts.size):
        start = np.int64(starts[run])
        flat[start : start + np.int64(lengths[run])] = True


@njit(cache=True, nogil=True)
def _count_blocks(rows, offsets, starts, lengths, shape, blocks, dense, block_offsets, index, count):
    """Offsets of the occupied blocks of each mask and, where there is room for them, the blocks and their voxels."""
    size_j, size_k = shape[1], shape[2]
    place = 0
    for n in range(rows.size):
        dense[:] = 0
        for run in range(offsets[rows[n]], offsets[rows[n] + 1]):
            start = np.int64(starts[run])
            row = start // size_k
            k = start - row * size_k
            stop = k + np.int64(lengths[run])
            i = row // size_j
            j = row - i * size_j
            first = ((i // BLOCK_EDGE) * blocks[1] + j // BLOCK_EDGE) * blocks[2]
            while k < stop:
                block = k // BLOCK_EDGE
                end = min(stop, (block + 1) * BLOCK_EDGE)
                dense[first + block] += end - k
                k = end
        for block in range(dense.size):
            if dense[block]:
                if index.size:
                    index[place] = block
                    count[place] = dense[block]
                place += 1
        block_offsets[n + 1] = place


@njit(cache=True, nogil=True)
def _running_count(mask, blocks_j, blocks_k, table, blocks):
    size_i, size_j, size_k = mask.shape
    count = np.int64(0)
    table[0] = 0
    for i in range(size_i):
        for j in range(size_j):
            row = mask[i, j]
            first = (i * size_j + j) * size_k + 1
            counts = table[first : first + size_k]
            if _row_is_empty(row):
                counts[:] = np.uint8(count)
                continue
            block = ((i // BLOCK_EDGE) * blocks_j + j // BLOCK_EDGE) * blocks_k
            for begin in range(0, size_k, BLOCK_EDGE):
                before = count
                for k in range(begin, min(begin + BLOCK_EDGE, size_k)):
                    count += row[k]
                    counts[k] = np.uint8(count)
                blocks[block] += count - before
                block += 1
    return count


@njit(cache=True, nogil=True)
def _intersections(rows, offsets, starts, lengths, table, counts):
    for n in range(rows.size):
        total = np.int64(0)
        for run in range(offsets[rows[n]], offsets[rows[n] + 1]):
            start = np.int64(starts[run])
            total += (np.int64(table[start + np.int64(lengths[run])]) - np.int64(table[start])) & 255
        counts[n] = total
