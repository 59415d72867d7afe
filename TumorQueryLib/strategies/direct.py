"""The strategy `direct`: the same answer as `brute-force`, after comparing only what could be in it.

Bounds. Let a and q be the voxels of an entry's mask and of the query's, a_b and q_b those in
block b. The overlap of the two is at most I = min(a, sum_b min(a_b, q_b)), so Dice is at most
2 I / (a + q). Entries are sorted into groups of like place and size; with the largest a_b of a
group instead of a_b, and the smallest and largest a of it, the same holds for all its entries at
once: 2 min(a, I) / (a + q) grows with a up to a = I and falls beyond, so its maximum over the
group lies at a = I, or at the nearer end of the group's range. The bound of the sum of the two
Dice is the sum of the two bounds.

Order. All groups are bounded first. The best groups are searched before the others, to know
good matches early; then the entries of every group that can still matter are bounded and
compared exactly, best bound first, until the next bound cannot enter the best `top`.

Why the result is exact. Call the pair (score, entry) of the worst match kept the bar. An
entry enters the best `top` if and only if its score is above the bar's, or equal with a lower
entry number; the bar only rises. A group or an entry is left out only if its bound is below the
bar, or equal with a higher number (of a group: its lowest), so an entry that is left out has a
score at most its bound and does not enter, now or later. What is not left out is compared by the
same code as in `brute-force`. This holds in floating point too: the bounds are computed from
integers at least (numerator) and in the order of the exact ones, by the same operations
2 I / (a + q) and one addition, each of which IEEE arithmetic rounds monotonically, so a bound
never comes out below the score that it bounds. Where both masks are empty Dice is 1, where one is
0; bounds follow the same rule (a group that holds an empty mask counts as 1 for an empty query).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.compiled import njit
from TumorQueryLib.database.masks import (
    BLOCK_EDGE,
    RUN_BYTES,
    BlockCounts,
    RunLengthMasks,
    RunningCount,
    Searchable,
    block_grid_shape,
)
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies.base import Match, check_query, register_strategy
from TumorQueryLib.strategies.exact import best_matches, compare_entries

#: Entries in a group. Fewer bound better, more are ruled out at once.
GROUP_SIZE = 32
#: Groups that are searched first, to know good matches early.
FIRST_GROUPS = 8
#: Entries compared between two looks at the bar, at first; the number doubles from look to look.
FIRST_COMPARISONS = 32
MOST_COMPARISONS = 1024


@register_strategy("direct")
class Direct:
    """Exact search with bounds.

    Parameters
    ----------
    database : Searchable

    Attributes
    ----------
    compared : int
        Entries that the last query compared exactly.
    bytes_read : int
        Size of their runs.
    """

    name = "direct"

    def __init__(self, database: Searchable) -> None:
        self.database = database
        self.compared = self.bytes_read = 0
        #: Group g holds the entries order[g * GROUP_SIZE : (g + 1) * GROUP_SIZE].
        self._order = order = _group_order(database)
        self._lowest_entry = np.minimum.reduceat(order, np.arange(0, len(order), GROUP_SIZE))
        self._core = _RegionBounds(database.core, database.core_blocks, order)
        self._whole = _RegionBounds(database.whole, database.whole_blocks, order)

    def query(self, masks: TumorMasks, top: int = 15) -> list[Match]:
        """The best `top` entries by the Dice of core and whole tumour, added; see `Strategy.query`."""
        check_query(masks, self.database, top)
        core, whole = RunningCount(masks.core), RunningCount(masks.whole)
        best = _Best(top)
        group_bounds = self._core.of_groups(core) + self._whole.of_groups(whole)
        first = min(FIRST_GROUPS, len(group_bounds))
        order = np.argpartition(-group_bounds, first - 1)
        self._search(order[:first], core, whole, best)
        rest = order[first:]
        self._search(rest[best.may_enter(group_bounds[rest], self._lowest_entry[rest])], core, whole, best)
        self.compared, self.bytes_read = best.compared, RUN_BYTES * best.runs_read
        return best_matches(best.entries, best.dice_core, best.dice_whole, top)

    def _search(self, groups: NDArray[np.int64], core: RunningCount, whole: RunningCount, best: _Best) -> None:
        """Compare what may enter the best matches among the entries of the given groups."""
        places = (groups[:, None] * GROUP_SIZE + np.arange(GROUP_SIZE)).ravel()
        places = places[places < len(self._order)]
        bounds = self._core.of_entries(core, places) + self._whole.of_entries(whole, places)
        entries = self._order[places]
        useful = best.may_enter(bounds, entries)
        entries, bounds = entries[useful], bounds[useful]
        order = np.lexsort((entries, -bounds))
        entries, bounds = entries[order], bounds[order]
        first, count = 0, FIRST_COMPARISONS
        while first < len(entries):
            # Sorted by (bound, entry), so the useful ones come first.
            useful = best.may_enter(bounds[first : first + count], entries[first : first + count])
            chosen = entries[first : first + count][useful]
            if not len(chosen):
                return
            best.add(chosen, *compare_entries(self.database, core, whole, chosen))
            for masks in (self.database.core, self.database.whole):
                best.runs_read += int((masks.offsets[chosen + 1] - masks.offsets[chosen]).sum())
            first, count = first + count, min(2 * count, MOST_COMPARISONS)


class _Best:
    """The best matches so far."""

    def __init__(self, top: int) -> None:
        self.top = top
        self.compared = self.runs_read = 0
        self.entries = np.empty(0, np.int64)
        self.dice_core = np.empty(0)
        self.dice_whole = np.empty(0)
        self._bar = (-1.0, 0)

    def may_enter(self, bounds: NDArray[np.float64], entries: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which entries of at most these scores can still displace one of the best."""
        score, entry = self._bar
        return (bounds > score) | ((bounds == score) & (entries < entry))

    def add(self, entries: NDArray[np.int64], dice_core: NDArray[np.float64], dice_whole: NDArray[np.float64]) -> None:
        """Take note of entries that were compared."""
        self.compared += len(entries)
        entries = np.concatenate([self.entries, entries])
        dice_core = np.concatenate([self.dice_core, dice_core])
        dice_whole = np.concatenate([self.dice_whole, dice_whole])
        score = dice_core + dice_whole
        kept = np.lexsort((entries, -score))[: self.top]
        self.entries, self.dice_core, self.dice_whole = entries[kept], dice_core[kept], dice_whole[kept]
        if len(kept) == self.top:
            self._bar = (float(score[kept[-1]]), int(self.entries[-1]))


class _RegionBounds:
    """Bounds of one region's Dice, for groups and for entries; both are numbered in the groups' order."""

    def __init__(self, masks: RunLengthMasks, blocks: BlockCounts, order: NDArray[np.int64]) -> None:
        size = int(np.prod(block_grid_shape(masks.grid_shape)))
        # In the groups' order, so that a group's entries lie together in memory.
        self._volume = masks.volume[order]
        self._offsets = np.zeros(len(order) + 1, np.int64)
        np.cumsum(np.diff(blocks.offsets)[order], out=self._offsets[1:])
        self._index = np.empty_like(blocks.index)
        self._count = np.empty_like(blocks.count)
        # One row a block, so that a bound pass reads whole rows of the query's few blocks.
        self._largest = np.zeros((size, -(-len(order) // GROUP_SIZE)), np.uint16)
        _reorder(
            order, blocks.offsets, blocks.index, blocks.count, self._offsets, self._index, self._count, self._largest
        )
        first = np.arange(0, len(order), GROUP_SIZE)
        self._least_volume = np.minimum.reduceat(self._volume, first)
        self._most_volume = np.maximum.reduceat(self._volume, first)

    def of_groups(self, query: RunningCount) -> NDArray[np.float64]:
        """Upper bound of Dice with any entry of each group."""
        overlap = np.zeros(self._largest.shape[1], np.int64)
        occupied = np.flatnonzero(query.blocks)
        _group_overlap(self._largest, occupied, query.blocks, overlap)
        bounds = np.empty(len(overlap))
        _group_dice(overlap, self._least_volume, self._most_volume, query.volume, bounds)
        return bounds

    def of_entries(self, query: RunningCount, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Upper bound of Dice with the entries at the given places of the groups' order."""
        bounds = np.empty(len(places))
        _entry_dice(places, self._offsets, self._index, self._count, self._volume, query.blocks, query.volume, bounds)
        return bounds


def _group_order(database: Searchable) -> NDArray[np.int64]:
    """Entries ordered so that runs of GROUP_SIZE have like place and size.

    Halved at the median along the feature of widest spread, again and again. The features
    are lengths: centre of the whole tumour, radii of core and whole tumour, in voxels.
    """
    features = np.empty((len(database), 5))
    _centres(
        database.whole_blocks.offsets,
        database.whole_blocks.index,
        database.whole_blocks.count,
        *block_grid_shape(database.grid.shape)[1:],
        features,
    )
    for column, masks in ((3, database.core), (4, database.whole)):
        features[:, column] = np.cbrt(masks.volume * (3 / (4 * np.pi)))
    order = np.arange(len(database))
    pieces = [(0, len(database))]
    while pieces:
        first, stop = pieces.pop()
        if stop - first <= GROUP_SIZE:
            continue
        members = order[first:stop]
        axis = int(np.argmax(np.ptp(features[members], axis=0)))
        # Cut at a multiple of the group size, so that groups are full.
        half = -(-(stop - first) // (2 * GROUP_SIZE)) * GROUP_SIZE
        order[first:stop] = members[np.argpartition(features[members, axis], half - 1)]
        pieces += [(first, first + half), (first + half, stop)]
    return order


@njit(cache=True, nogil=True)
def _centres(offsets, index, count, blocks_j, blocks_k, features):
    for entry in range(offsets.size - 1):
        total = 0.0
        i = j = k = 0.0
        for n in range(offsets[entry], offsets[entry + 1]):
            row = index[n] // blocks_k
            weight = np.float64(count[n])
            k += weight * (index[n] - row * blocks_k)
            i += weight * (row // blocks_j)
            j += weight * (row % blocks_j)
            total += weight
        total = max(total, 1.0)
        features[entry, 0] = BLOCK_EDGE * i / total
        features[entry, 1] = BLOCK_EDGE * j / total
        features[entry, 2] = BLOCK_EDGE * k / total


@njit(cache=True, nogil=True)
def _reorder(order, offsets, index, count, new_offsets, new_index, new_count, largest):
    for place in range(order.size):
        group = place // GROUP_SIZE
        to = new_offsets[place]
        for n in range(offsets[order[place]], offsets[order[place] + 1]):
            new_index[to] = index[n]
            new_count[to] = count[n]
            largest[index[n], group] = max(largest[index[n], group], count[n])
            to += 1


@njit(cache=True, nogil=True)
def _group_overlap(largest, occupied, query_blocks, overlap):
    for block in occupied:
        row = largest[block]
        most = np.int64(query_blocks[block])
        for group in range(row.size):
            overlap[group] += min(np.int64(row[group]), most)


@njit(cache=True, nogil=True)
def _group_dice(overlap, least, most, query_volume, bounds):
    for group in range(overlap.size):
        shared = min(overlap[group], query_volume)
        volume = min(max(shared, least[group]), most[group])
        total = volume + query_volume
        bounds[group] = 1.0 if total == 0 else 2.0 * min(shared, volume) / np.float64(total)


@njit(cache=True, nogil=True)
def _entry_dice(places, offsets, index, count, volume, query_blocks, query_volume, bounds):
    for n in range(places.size):
        place = places[n]
        shared = np.int64(0)
        for block in range(offsets[place], offsets[place + 1]):
            shared += min(np.int64(count[block]), np.int64(query_blocks[index[block]]))
        total = volume[place] + query_volume
        bounds[n] = 1.0 if total == 0 else 2.0 * shared / np.float64(total)
