"""How well a density agrees with a segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.regions import TumorMasks, dice, threshold_density

#: Below this density a segmented voxel counts as left without any.
NO_DENSITY = 0.01
#: A part without density is named from this volume (ml) on, or from this share of the whole tumour.
LARGE_PART_ML, LARGE_PART_SHARE, SMALLEST_PART_ML = 1.0, 0.05, 0.2
#: What is smaller is where outlines differ a little, and no part.
SLIVER_ML = 0.05


@dataclass(frozen=True)
class MissedPart:
    """A connected part of a segmented tumour that a density leaves out, or all that are too small to be named alone.

    Parameters
    ----------
    volume_ml : float
    centre : tuple of float
        Of its voxels, RAS mm.
    count : int
        How many connected parts these are.
    """

    volume_ml: float
    centre: tuple[float, float, float]
    count: int = 1


def missed_parts(density: Volume, observed: TumorMasks) -> list[MissedPart]:
    """Parts of the segmented tumour without density, the largest first, and after them all the small ones as one.

    Parameters
    ----------
    density : Volume
    observed : TumorMasks
        On the density's grid.

    Returns
    -------
    list of MissedPart
        Connected voxels of the whole tumour with a density below 0.01; at least 1 ml, or 0.2 ml and a twentieth of
        the whole tumour, as must have those that are smaller (but 0.05 ml), taken together.
    """
    grid = density.grid
    labelled, count = ndimage.label(observed.whole & (density.array < NO_DENSITY))
    volumes = np.bincount(labelled.ravel(), minlength=count + 1)[1:] * grid.voxel_volume_ml
    least = min(LARGE_PART_ML, max(SMALLEST_PART_ML, LARGE_PART_SHARE * observed.volumes_ml()[1]))
    order = np.argsort(-volumes, kind="stable")
    alone = int(np.count_nonzero(volumes >= least))
    parts = []
    for numbers in (*order[:alone, None], order[alone : np.count_nonzero(volumes >= SLIVER_ML)]):
        volume = float(volumes[numbers].sum())
        if volume >= least:
            x, y, z = grid.to_ras(np.argwhere(np.isin(labelled, numbers + 1)).mean(axis=0)).tolist()
            parts.append(MissedPart(volume, (x, y, z), len(numbers)))
    return parts


#: Dice of core plus Dice of the whole tumour from which a fit is called good, and fair (see `Fit.quality`).
GOOD_DICE_SUM = 1.6
FAIR_DICE_SUM = 1.3


@dataclass(frozen=True)
class Fit:
    """A density's core and whole tumour against the segmented ones, on one grid.

    Parameters
    ----------
    dice_core, dice_whole : float
        In [0, 1].
    observed_ml, predicted_ml : tuple of float
        Volumes of core and whole tumour, of the segmentation and of the density.
    """

    dice_core: float
    dice_whole: float
    observed_ml: tuple[float, float]
    predicted_ml: tuple[float, float]

    @classmethod
    def of(cls, density: Volume, observed: TumorMasks, thresholds: tuple[float, float]) -> Fit:
        """Count the fit of a density.

        Parameters
        ----------
        density : Volume
        observed : TumorMasks
            On the density's grid.
        thresholds : tuple of float
            Densities above which a voxel belongs to core and whole tumour.

        Raises
        ------
        InputError
            When the two lie on different grids.
        """
        if not density.grid.matches(observed.grid):
            raise InputError("A density and a segmentation are compared on one grid, and these lie on two.")
        core, whole = threshold_density(density, *thresholds)
        voxel = density.grid.voxel_volume_ml
        return cls(
            dice_core=dice(observed.core, core.array),
            dice_whole=dice(observed.whole, whole.array),
            observed_ml=observed.volumes_ml(),
            predicted_ml=(
                float(np.count_nonzero(core.array) * voxel),
                float(np.count_nonzero(whole.array) * voxel),
            ),
        )

    @property
    def dice_sum(self) -> float:
        """Dice of core and whole tumour, summed, in [0, 2]."""
        return self.dice_core + self.dice_whole

    @property
    def quality(self) -> Literal["well", "fairly", "poorly"]:
        """How the modelled outlines agree with the segmented ones.

        The limits are those of real patients and stand on the sum of the two Dice numbers. Refined in their own
        anatomy, five patients of TCIA reach 1.583 to 1.740 with a mean of 1.640 (docs/refinement.md), and fourteen
        others a mean of 1.585: `GOOD_DICE_SUM`, 1.6, is what the model does for half of the patients. The paper's
        best matches, without a refinement, have a mean of 1.07: `FAIR_DICE_SUM`, 1.3, lies between that and 1.6,
        where the outlines still share more than half of their volume. Of 150 densities of tumours grown in another
        anatomy those called well are wrong by .029 in the mean within 20 mm, fairly by .059, poorly by .058
        (docs/refinement.md). Without a segmented core the Dice of the whole
        tumour counts twice. With two foci the limits are the same: a second focus is kept only where it fits better,
        and what it describes is still judged by the outlines alone. A good fit says that the model can draw these
        outlines, and not that the density between and beyond them is the true one.
        """
        has_core = self.observed_ml[0] > 0
        score = self.dice_sum if has_core else 2 * self.dice_whole
        if score >= GOOD_DICE_SUM:
            return "well"
        return "fairly" if score >= FAIR_DICE_SUM else "poorly"

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> Fit:
        """A fit as result.json holds it."""
        observed, predicted = (
            (float(described[name]["core"]), float(described[name]["whole"]))
            for name in ("observed_ml", "predicted_ml")
        )
        return cls(described["dice_core"], described["dice_whole"], observed, predicted)

    def as_json(self) -> dict[str, Any]:
        """As result.json holds it."""
        return {
            "dice_core": self.dice_core,
            "dice_whole": self.dice_whole,
            "dice_sum": self.dice_sum,
            "observed_ml": dict(zip(("core", "whole"), self.observed_ml)),
            "predicted_ml": dict(zip(("core", "whole"), self.predicted_ml)),
        }
