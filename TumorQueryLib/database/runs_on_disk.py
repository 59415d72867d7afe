"""The runs of a database that stay in its file until they are asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.compiled import njit
from TumorQueryLib.base.parallel import physical_memory
from TumorQueryLib.database.checks import check_offsets, check_volumes
from TumorQueryLib.database.masks import RUN_BYTES, RunLengthMasks
from TumorQueryLib.database.schema import PAGE, REGIONS, damaged, read_table, reading

#: Share of the physical memory that runs may fill before they are read anew for every query.
MEMORY_SHARE = 0.25


def open_masks(
    path: Path, tables: Mapping[str, h5py.Dataset], grid_shape: tuple[int, int, int], memory_limit: int | None
) -> dict[str, RunLengthMasks]:
    """The masks of "core" and "whole", whose runs are read when they are used.

    Parameters
    ----------
    path : Path
    tables : mapping
        See `schema.find_tables`.
    grid_shape : tuple of int
    memory_limit : int, optional
        Bytes that the runs of both regions may fill; where they need more, what was read stays only
        as long as there is room. By default a quarter of the physical memory.

    Raises
    ------
    DatabaseError
        When offsets or volumes are damaged.
    """
    limit = int(MEMORY_SHARE * physical_memory()) if memory_limit is None else memory_limit
    resident = sum(RUN_BYTES * len(tables[f"masks/{group}/starts"]) for group in REGIONS.values()) <= limit
    masks = {}
    for region, group in REGIONS.items():
        offsets, volume = (read_table(path, tables[f"masks/{group}/{name}"]) for name in ("offsets", "volume"))
        starts, lengths = (tables[f"masks/{group}/{name}"] for name in ("starts", "lengths"))
        check_offsets(path, offsets, len(starts))
        reader = RunReader(path, starts, lengths, offsets, grid_shape)
        check_volumes(path, volume, offsets, grid_shape)
        source = LazyRuns(offsets, reader) if resident else StreamedRuns(offsets, reader, limit // len(REGIONS))
        masks[region] = RunLengthMasks(grid_shape, offsets, volume, source)
    return masks


class RunReader:
    """Reads the runs of one region from the file, page by page, and checks them."""

    def __init__(
        self,
        path: Path,
        starts: h5py.Dataset,
        lengths: h5py.Dataset,
        offsets: NDArray[np.int64],
        grid_shape: tuple[int, int, int],
    ) -> None:
        self.path = path
        self.starts, self.lengths, self.offsets = starts, lengths, offsets
        self.size = len(starts)
        self.grid_shape = grid_shape

    def read(self, first: int, starts: NDArray[np.uint32], lengths: NDArray[np.uint8]) -> None:
        """Fill the arrays with the runs from number `first` on; DatabaseError where they are damaged."""
        piece = np.s_[first : first + len(starts)]
        begins_within_a_mask = self.offsets[np.searchsorted(self.offsets, first)] != first
        before = 0
        with reading(self.path):
            self.starts.read_direct(starts, piece)
            self.lengths.read_direct(lengths, piece)
            if begins_within_a_mask:
                before = int(self.starts[first - 1]) + int(self.lengths[first - 1])
        size, size_k = int(np.prod(self.grid_shape)), self.grid_shape[2]
        if not _runs_are_valid(starts, lengths, self.offsets, first, before, size, size_k):
            raise damaged(self.path, "a mask leaves its grid, or holds a voxel twice")


class LazyRuns:
    """Runs that stay in memory once they were read; see `masks.RunSource`."""

    def __init__(self, offsets: NDArray[np.int64], reader: RunReader) -> None:
        self.offsets = offsets
        self._reader = reader
        # Memory that is reserved here is occupied only where it is filled.
        self._starts = np.empty(reader.size, np.uint32)
        self._lengths = np.empty(reader.size, np.uint8)
        self._read = np.zeros(-(-reader.size // PAGE), np.bool_)
        self._all_read = reader.size == 0
        self._lock = threading.Lock()

    def select(
        self, entries: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint8]]:
        """See `masks.RunSource`."""
        if not self._all_read:
            missing = np.zeros(len(self._read), np.bool_)
            _mark_pages(entries, self.offsets, PAGE, missing)
            missing &= ~self._read
            if missing.any():
                with self._lock:
                    self._load(np.flatnonzero(missing & ~self._read))
        return entries, self.offsets, self._starts, self._lengths

    def _load(self, pages: NDArray[np.int64]) -> None:
        # Neighbouring pages in one call.
        for group in np.split(pages, np.flatnonzero(np.diff(pages) > 1) + 1):
            if len(group):
                piece = slice(group[0] * PAGE, min((group[-1] + 1) * PAGE, self._reader.size))
                self._reader.read(piece.start, self._starts[piece], self._lengths[piece])
                self._read[group] = True
        self._all_read = bool(self._read.all())


class StreamedRuns:
    """Runs of a database larger than memory: the pages used last are kept; see `masks.RunSource`."""

    def __init__(self, offsets: NDArray[np.int64], reader: RunReader, memory_limit: int) -> None:
        self.offsets = offsets
        self._reader = reader
        self._pages: OrderedDict[int, tuple[NDArray[np.uint32], NDArray[np.uint8]]] = OrderedDict()
        self._kept = max(1, memory_limit // (RUN_BYTES * PAGE))
        self._lock = threading.Lock()

    def select(
        self, entries: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint8]]:
        """See `masks.RunSource`."""
        begin, end = self.offsets[entries], self.offsets[entries + 1]
        offsets = np.zeros(len(entries) + 1, np.int64)
        np.cumsum(end - begin, out=offsets[1:])
        starts = np.empty(offsets[-1], np.uint32)
        lengths = np.empty(offsets[-1], np.uint8)
        with self._lock:
            # In the file's order, so that each page is read once even where few are kept.
            for n in np.argsort(begin, kind="stable"):
                at, stop, to = int(begin[n]), int(end[n]), int(offsets[n])
                while at < stop:
                    page = at // PAGE
                    page_starts, page_lengths = self._page(page)
                    inside = at - page * PAGE
                    count = min(stop - at, PAGE - inside)
                    starts[to : to + count] = page_starts[inside : inside + count]
                    lengths[to : to + count] = page_lengths[inside : inside + count]
                    at, to = at + count, to + count
        return np.arange(len(entries)), offsets, starts, lengths

    def _page(self, number: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        if number in self._pages:
            self._pages.move_to_end(number)
            return self._pages[number]
        count = min(PAGE, self._reader.size - number * PAGE)
        page = (np.empty(count, np.uint32), np.empty(count, np.uint8))
        self._reader.read(number * PAGE, *page)
        while len(self._pages) >= self._kept:
            self._pages.popitem(last=False)
        self._pages[number] = page
        return page


@njit(cache=True, nogil=True)
def _mark_pages(entries, offsets, page, marked):
    for n in range(entries.size):
        begin, end = offsets[entries[n]], offsets[entries[n] + 1]
        if end > begin:
            for number in range(begin // page, (end - 1) // page + 1):
                marked[number] = True


@njit(cache=True, nogil=True)
def _runs_are_valid(starts, lengths, offsets, first, before, size, size_k):
    # A voxel that is there twice would count twice, and a Dice exceed 1: within a mask, runs ascend.
    mask = np.searchsorted(offsets, first, side="right")
    end = np.int64(before)
    for run in range(starts.size):
        while mask < offsets.size and offsets[mask] <= first + run:
            mask += 1
            end = np.int64(0)
        start = np.int64(starts[run])
        length = np.int64(lengths[run])
        if length == 0 or start < end or start + length > size or start % size_k + length > size_k:
            return False
        end = start + length
    return True
