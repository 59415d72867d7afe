"""A patient's brain: where it came from, and the mask of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.brain import find_brain
from TumorQueryLib.geometry.grid import Grid, Volume, resample_mask

#: Share of the tumour that an extraction can have left out.
MOST_ADDED = 0.5


@dataclass(frozen=True, eq=False)
class PatientBrain:
    """A patient's brain.

    Parameters
    ----------
    source : {"stripped", "given", "extracted"}
        From an image without skull, from a mask, or extracted from an image with skull.
    mask : Volume, optional
        Boolean, in the patient's space; None where the image is stripped.
    added_ml, added_share : float
        The segmented tumour that the extraction had left out and that was added: ml, and its share of the tumour.
    """

    source: str
    mask: Volume | None = None
    added_ml: float = 0.0
    added_share: float = 0.0

    @classmethod
    def extracted(cls, mask: Volume, tumour: Volume) -> PatientBrain:
        """An extracted brain; what it leaves out of the segmented tumour is added, since that is brain too.

        Parameters
        ----------
        mask, tumour : Volume
            Boolean, each on any grid.

        Raises
        ------
        InputError
            When most of the tumour was left out, so that one of the two lies elsewhere.
        """
        seen = resample_mask(tumour, mask.grid).array
        missed, volume = int(np.count_nonzero(seen & ~mask.array)), int(np.count_nonzero(seen))
        share = missed / max(1, volume)
        if share > MOST_ADDED:
            raise InputError(
                f"Only {1 - share:.0%} of the segmented tumour lies in the brain that was extracted: segmentation and "
                "image are of different patients, or one of them is mirrored or has lost its place in space. Check "
                "both in a viewer, and give a brain mask (--brain-mask) where they are right."
            )
        added_ml = missed * mask.grid.voxel_volume_ml
        return cls("extracted", Volume(mask.array | seen, mask.grid), added_ml, share)

    def on(self, grid: Grid, image: Volume, tumour: Volume) -> Volume:
        """The brain on another grid, boolean, with the tumour as it lies there.

        Parameters
        ----------
        grid : Grid
        image : Volume
            In which a stripped brain is found: what is not background.
        tumour : Volume
            Boolean mask.
        """
        mask = Volume(find_brain(image)[0], image.grid) if self.mask is None else self.mask
        return Volume(resample_mask(mask, grid).array | resample_mask(tumour, grid).array, grid)
