"""Held-out tumours: drawn from a database's prior, and in no database."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.parallel import available_cores, in_order
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.database.masks import decode_runs
from TumorQueryLib.database.prior import (
    VISIBLE_CORE_ML,
    SeedCells,
    check_sampling,
    grow_independent,
    grow_random_moment,
)
from TumorQueryLib.database.schema import Entries
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.growth import GrowthParameters


@dataclass(frozen=True, eq=False)
class SyntheticTumour:
    """A simulated tumour that is in no database.

    Parameters
    ----------
    parameters : GrowthParameters
    masks : TumorMasks
        Core and whole tumour on the atlas grid.
    """

    parameters: GrowthParameters
    masks: TumorMasks


def sample_synthetic(
    atlas: Atlas,
    count: int,
    *,
    random_seed: int,
    sampling: str = "trajectory",
    with_visible_core: bool = False,
    progress: Progress = no_progress,
) -> Iterator[SyntheticTumour]:
    """Tumours from a database's prior, one from each trajectory, none of them in any database.

    They are drawn at random, not quasi-randomly, and from other random numbers than any
    database's, whatever the seeds.

    Parameters
    ----------
    atlas : Atlas
    count : int
    random_seed : int
        The same seed gives the same tumours.
    sampling : {"trajectory", "independent"}
    with_visible_core : bool
        Draw again where the core has less than 0.2 ml.
    progress : Progress

    Yields
    ------
    SyntheticTumour
        In the order of their numbers; grown on all cores, a few ahead of what is taken.

    Raises
    ------
    InputError
        When there is no such sampling, or the random seed is negative.
    """
    check_sampling(sampling, random_seed)
    tissue = Tissue.from_atlas(atlas)
    cells = SeedCells.of(atlas, tissue)
    grow_one = grow_random_moment if sampling == "trajectory" else grow_independent

    def grow(number: int) -> Entries:
        # The third number keeps these streams apart from those of the databases.
        generator = np.random.default_rng([random_seed, number, 1])
        while True:
            entries = grow_one(cells, generator, number, tissue)
            core_ml = entries.runs["core"][0].volume * tissue.grid.voxel_volume_ml
            if core_ml >= VISIBLE_CORE_ML or not with_visible_core:
                return entries

    with ThreadPoolExecutor(available_cores()) as executor:
        for number, entries in enumerate(in_order(executor, grow, range(count), 2 * available_cores())):
            progress(number / count, "Growing synthetic tumours")
            core, whole = (decode_runs(entries.runs[region][0], tissue.grid.shape) for region in ("core", "whole"))
            yield SyntheticTumour(entries.parameters(0), TumorMasks(core=core, whole=whole, grid=tissue.grid))
