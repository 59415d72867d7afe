"""Tissue maps that come with a patient, made ready for the growth model and compared with the atlas's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.anatomy.own import NAMES, overlap_of
from TumorQueryLib.anatomy.tissue import TISSUE_THRESHOLD
from TumorQueryLib.anatomy.tissue_maps import PADDING, SPACING, TissueMaps
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume, resample_mask
from TumorQueryLib.geometry.regions import bounding_box

#: The maps are in another order where another one agrees better with the atlas's, by this much in the mean overlap ...
BETTER_ORDER = 0.15
#: ... and well by itself; a registration that failed says nothing.
CLEAR_OVERLAP = 0.4
#: Mean overlap with the atlas's maps below which given and atlas's hardly lie over one another.
POOR_OVERLAP = 0.45
#: Share of the tumour without tissue from which the user should know what is made of it.
MUCH_OF_TUMOUR = 0.5


@dataclass(frozen=True, eq=False)
class GivenTissue:
    """The tissue maps that were given with a patient.

    Parameters
    ----------
    maps : TissueMaps
        On a grid of 1.5 mm along RAS around the given tissue and the tumour.
    volumes_ml : tuple of float
        Of white matter, grey matter and CSF.
    overlap : tuple of float
        Of each map with the atlas's carried one, outside the tumour (see `overlap_of`), in [0, 1].
    warnings : tuple of str
    """

    maps: TissueMaps
    volumes_ml: tuple[float, float, float]
    overlap: tuple[float, float, float]
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As result.json holds it."""
        names = ("white_matter", "grey_matter", "csf")
        return {
            "source": "given",
            "volumes_ml": {name: round(volume, 1) for name, volume in zip(names, self.volumes_ml)},
            "overlap_with_atlas": {name: round(overlap, 3) for name, overlap in zip(names, self.overlap)},
        }


def given_tissue(given: TissueMaps, carried: TissueMaps, tumour: Volume) -> GivenTissue:
    """The given maps on a grid for the growth model, after a look at whether they are what they are said to be.

    Parameters
    ----------
    given : TissueMaps
        In the patient's space, on any grid.
    carried : TissueMaps
        The atlas's maps in the patient's space, for the comparison.
    tumour : Volume
        The whole tumour, boolean, on any grid.

    Raises
    ------
    InputError
        When the maps agree clearly better with the atlas's in another order.
    """
    overlaps = _overlaps(given.on_grid(carried.grid), carried, tumour)
    warnings = list(_checked_order(overlaps))
    maps = given.on_grid(_grid_around(given, tumour))
    seen = resample_mask(tumour, maps.grid).array
    without = float((maps.white_matter + maps.grey_matter < TISSUE_THRESHOLD)[seen].mean()) if seen.any() else 0.0
    if without > MUCH_OF_TUMOUR:
        warnings.append(
            f"{without:.0%} of the segmented tumour is CSF or nothing in the given tissue maps; there it grows in "
            "white matter, or in grey matter where its surroundings mostly are."
        )
    white, grey, csf = (
        float(m.sum(dtype=float) * maps.grid.voxel_volume_ml) for m in (maps.white_matter, maps.grey_matter, maps.csf)
    )
    of_white, of_grey, of_csf = (float(overlap) for overlap in overlaps.diagonal())
    return GivenTissue(maps, (white, grey, csf), (of_white, of_grey, of_csf), tuple(warnings))


def _grid_around(given: TissueMaps, tumour: Volume) -> Grid:
    """A grid of 1.5 mm along RAS around the given tissue and the tumour."""
    places = (
        (given.grid, given.white_matter + given.grey_matter >= TISSUE_THRESHOLD),
        (tumour.grid, tumour.array),
    )
    corners = []
    for grid, mask in places:
        if mask.any():
            first, last = bounding_box(mask)
            corners.append(grid.to_ras(np.array(np.meshgrid(*zip(first, last - 1))).reshape(3, -1).T))
    return Grid.around(np.concatenate(corners), SPACING, PADDING)


def _overlaps(given: TissueMaps, carried: TissueMaps, tumour: Volume) -> NDArray[np.float64]:
    """Overlap of each given map (row) with each of the atlas's (column) on the grid of both, outside the tumour."""
    outside = ~resample_mask(tumour, carried.grid).array
    return np.array([[overlap_of(one, other, outside) for other in _three(carried)] for one in _three(given)])


def _three(maps: TissueMaps) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    return maps.white_matter, maps.grey_matter, maps.csf


def _checked_order(overlaps: NDArray[np.float64]) -> Iterator[str]:
    """Refuse maps in another order than white matter, grey matter, CSF; a sentence where they agree poorly."""
    orders = {order: float(np.mean([overlaps[n, k] for n, k in enumerate(order)])) for order in permutations(range(3))}
    as_given = orders[0, 1, 2]
    best = max(orders, key=lambda order: orders[order])
    if orders[best] > max(as_given + BETTER_ORDER, CLEAR_OVERLAP):
        found = ", ".join(NAMES[k] for k in best)
        raise InputError(
            f"The three tissue maps look like {found}, in this order (overlap with the atlas's {orders[best]:.2f}, as "
            f"given {as_given:.2f}); give them in the order white matter, grey matter, CSF."
        )
    if as_given < POOR_OVERLAP:
        each = ", ".join(f"{name} {overlap:.2f}" for name, overlap in zip(NAMES, overlaps.diagonal()))
        yield (
            f"The given tissue maps agree poorly with the atlas's laid over them ({each}): look at whether they lie on "
            "the patient's images, and at the registration in the report."
        )
