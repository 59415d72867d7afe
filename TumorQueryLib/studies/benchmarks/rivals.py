"""The ways in which the exact query is usually done, on a sample of entries.

A Python loop over dense densities, dense boolean arrays, packed bits, and faiss. A hundred thousand dense masks do
not fit in memory and the loop takes minutes a query, so a sample of entries is decoded beforehand, and the times are
scaled to the database; the figures are marked `extrapolated`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.base.timing import Stopwatch
from TumorQueryLib.database.store import TumorDatabase
from TumorQueryLib.geometry.regions import TumorMasks, dice_from_counts
from TumorQueryLib.strategies.exact import best_matches, exact_dice
from TumorQueryLib.studies.timing import milliseconds

#: The paper's recipe, dense and packed NumPy, faiss.
RIVALS = ("paper_recipe", "dense_numpy", "packed_numpy", "faiss")
SAMPLE_ENTRIES = 2000
#: Entries of the sample that are decoded at a time: 17 MB each as the paper's float64.
DECODED_AT_ONCE = 25


def measure_rivals(
    database: TumorDatabase, queries: Sequence[TumorMasks], *, top: int, progress: Progress = no_progress
) -> dict[str, Any]:
    """The usual ways on a sample of entries, scaled to the database.

    Parameters
    ----------
    database : TumorDatabase
    queries : sequence of TumorMasks
        On the database's grid.
    top : int
        Number of entries whose order is compared.
    progress : Progress

    Returns
    -------
    dict
        `methods`: for each of `RIVALS` its `milliseconds` a query of the whole database with `extrapolated`, or
        None where the package is missing; `identical`: whether their scores and best entries are the exact ones.
    """
    entries = np.unique(np.linspace(0, len(database) - 1, min(SAMPLE_ENTRIES, len(database))).astype(np.int64))
    prepared = [_Query(masks) for masks in queries]
    seconds: dict[str, NDArray[np.float64]] = {}
    scores: dict[str, NDArray[np.float64]] = {}

    def measure(name: str, method: Callable[[Any, _Query], NDArray[np.float64]], stored: Any, first: int) -> None:
        seconds.setdefault(name, np.zeros(len(prepared)))
        scores.setdefault(name, np.zeros((len(prepared), len(entries))))
        for number, query in enumerate(prepared):
            with Stopwatch() as taken:
                found = method(stored, query)
            seconds[name][number] += taken.wall
            scores[name][number, first : first + len(found)] = found

    # Bits of the whole sample fit in memory, dense arrays do not.
    packed = _Packed(database, entries)
    for first in range(0, len(entries), DECODED_AT_ONCE):
        decoded = _Decoded(database, entries[first : first + DECODED_AT_ONCE])
        packed.add(decoded)
        measure("paper_recipe", _paper_recipe, decoded, first)
        measure("dense_numpy", _dense_numpy, decoded, first)
        progress(first / len(entries), "The usual ways, on a sample")
    if hasattr(np, "bitwise_count"):
        measure("packed_numpy", _packed_numpy, packed, 0)
    try:
        indexes = _FaissIndexes(packed)
    except ImportError:
        pass
    else:
        measure("faiss", _faiss, indexes, 0)
    identical = True
    for number, masks in enumerate(queries):
        dice_core, dice_whole = exact_dice(database, masks, entries)
        expected = [match.entry for match in best_matches(entries, dice_core, dice_whole, top)]
        for found in (rows[number] for rows in scores.values()):
            identical &= np.array_equal(found, dice_core + dice_whole)
            identical &= entries[np.lexsort((entries, -found))[:top]].tolist() == expected
    measured: dict[str, dict[str, Any] | None] = dict.fromkeys(RIVALS)
    for name, values in seconds.items():
        measured[name] = milliseconds(values * (len(database) / len(entries))) | {
            "extrapolated": True,
            "sample_entries": len(entries),
            "sample_queries": len(queries),
        }
    return {"methods": measured, "identical": bool(identical)}


class _Query:
    """A query in the forms that the usual ways work on; making them is not timed."""

    def __init__(self, masks: TumorMasks) -> None:
        self.masks = (masks.core, masks.whole)
        self.packed = [_packed(mask[None])[0] for mask in self.masks]
        self.volumes = [np.count_nonzero(mask) for mask in self.masks]


class _Decoded:
    """A few entries as dense arrays; making them is not timed."""

    def __init__(self, database: TumorDatabase, entries: NDArray[np.int64]) -> None:
        self.core = np.stack([database.core.decode(int(entry)) for entry in entries])
        self.whole = np.stack([database.whole.decode(int(entry)) for entry in entries])
        # Stands in for the stored density: the same type, size and thresholds.
        self.density = [0.3 * whole + 0.4 * core for core, whole in zip(self.core, self.whole)]
        self.thresholds = (database.threshold_core, database.threshold_whole)


class _Packed:
    """Many entries as packed bits, with their volumes; making them is not timed."""

    def __init__(self, database: TumorDatabase, entries: NDArray[np.int64]) -> None:
        words = int(np.prod(database.grid.shape)) // 64
        self.bits = [np.empty((len(entries), words), np.uint64) for _ in range(2)]
        self.volumes = [database.core.volume[entries], database.whole.volume[entries]]
        self._filled = 0

    def add(self, decoded: _Decoded) -> None:
        piece = slice(self._filled, self._filled + len(decoded.core))
        for bits, masks in zip(self.bits, (decoded.core, decoded.whole)):
            bits[piece] = _packed(masks)
        self._filled = piece.stop


class _FaissIndexes:
    """A faiss index of each region's packed bits."""

    def __init__(self, packed: _Packed) -> None:
        import faiss

        self.volumes = packed.volumes
        self.indexes = []
        for bits in packed.bits:
            index = faiss.IndexBinaryFlat(64 * bits.shape[1])
            index.add(bits.view(np.uint8))
            self.indexes.append(index)


def _packed(masks: NDArray[np.bool_]) -> NDArray[np.uint64]:
    return np.packbits(masks.reshape(len(masks), -1), axis=1).view(np.uint64)


def _paper_recipe(decoded: _Decoded, query: _Query) -> NDArray[np.float64]:
    """A loop over dense densities: threshold, multiply, sum, as the authors' code does."""
    scores = []
    for density in decoded.density:
        score = 0.0
        for threshold, mask in zip(decoded.thresholds, query.masks):
            simulated = np.zeros(density.shape)
            simulated[density > threshold] = 1
            total = np.sum(simulated) + np.sum(mask)
            score += 1.0 if total == 0 else 2.0 * np.sum(simulated * mask) / total
        scores.append(score)
    return np.array(scores)


def _dense_numpy(decoded: _Decoded, query: _Query) -> NDArray[np.float64]:
    """Boolean arrays: logical and, sum."""
    scores = np.zeros(len(decoded.core))
    for stored, mask in zip((decoded.core, decoded.whole), query.masks):
        for n, one in enumerate(stored):
            scores[n] += dice_from_counts(np.logical_and(one, mask).sum(), one.sum(), mask.sum())
    return scores


def _packed_numpy(packed: _Packed, query: _Query) -> NDArray[np.float64]:
    """Packed bits: and, popcount; volumes counted beforehand."""
    scores = np.zeros(len(packed.volumes[0]))
    for bits, volumes, asked, volume in zip(packed.bits, packed.volumes, query.packed, query.volumes):
        shared = [int(np.bitwise_count(one & asked).sum()) for one in bits]
        scores += dice_from_counts(shared, volumes, volume)
    return scores


def _faiss(stored: _FaissIndexes, query: _Query) -> NDArray[np.float64]:
    """Hamming distances of all entries by faiss, turned into Dice."""
    scores = np.zeros(len(stored.volumes[0]))
    for index, volumes, asked, volume in zip(stored.indexes, stored.volumes, query.packed, query.volumes):
        distances, order = index.search(asked.view(np.uint8)[None], index.ntotal)
        hamming = np.empty(index.ntotal, np.int64)
        hamming[order[0]] = distances[0]
        scores += dice_from_counts((volumes + volume - hamming) // 2, volumes, volume)
    return scores
