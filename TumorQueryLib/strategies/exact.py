"""The strategy `brute-force`: the query compared with every entry, nothing left out.

The reference that all other strategies are held against. Each comparison is exact and costs
two look-ups a run (`database.masks`); slices of the database are compared on all cores.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.parallel import available_cores
from TumorQueryLib.database.masks import RunningCount, Searchable
from TumorQueryLib.geometry.regions import TumorMasks, dice_from_counts
from TumorQueryLib.strategies.base import Match, check_query, register_strategy

#: Entries that are compared at once: enough to outweigh the call, few enough to stay in the cache.
SLICE = 1024


@register_strategy("brute-force")
class BruteForce:
    """Compare every entry, on all cores.

    Parameters
    ----------
    database : Searchable
    """

    name = "brute-force"

    def __init__(self, database: Searchable) -> None:
        self.database = database

    def query(self, masks: TumorMasks, top: int = 15) -> list[Match]:
        """The best `top` entries by the Dice of core and whole tumour, added; see `Strategy.query`."""
        check_query(masks, self.database, top)
        entries = np.arange(len(self.database))
        dice_core, dice_whole = exact_dice(self.database, masks, entries)
        return best_matches(entries, dice_core, dice_whole, top)


def exact_dice(
    database: Searchable, masks: TumorMasks, entries: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dice of a query with the given entries, counted voxel by voxel.

    Returns
    -------
    dice_core, dice_whole : ndarray of float64, shape (len(entries),)
    """
    core, whole = RunningCount(masks.core), RunningCount(masks.whole)

    def compare(entries: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return compare_entries(database, core, whole, entries)

    slices = [entries[first : first + SLICE] for first in range(0, len(entries), SLICE)]
    if len(slices) <= 1:
        return compare(entries)
    with ThreadPoolExecutor(available_cores()) as executor:
        parts = list(executor.map(compare, slices))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def compare_entries(
    database: Searchable, core: RunningCount, whole: RunningCount, entries: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`exact_dice` for a query that is prepared already, on this thread."""
    dice_core = dice_from_counts(database.core.intersections(core, entries), database.core.volume[entries], core.volume)
    dice_whole = dice_from_counts(
        database.whole.intersections(whole, entries), database.whole.volume[entries], whole.volume
    )
    return dice_core, dice_whole


def best_matches(
    entries: NDArray[np.int64], dice_core: NDArray[np.float64], dice_whole: NDArray[np.float64], top: int
) -> list[Match]:
    """The best `top` of the given entries by the sum of both Dice; ties to the lower entry number."""
    score = dice_core + dice_whole
    order = np.lexsort((entries, -score))[:top]
    return [Match(int(entries[n]), float(dice_core[n]), float(dice_whole[n]), float(score[n])) for n in order]
