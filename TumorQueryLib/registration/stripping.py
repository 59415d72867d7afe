"""A patient's images as networks for skull-stripped images take them: without skull, over one another, on one grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from TumorQueryLib.anatomy.brain import extract_brain
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.geometry.brain import find_brain
from TumorQueryLib.geometry.grid import Volume, resample, resample_mask
from TumorQueryLib.registration.alignment import Alignment, align_images


@dataclass(frozen=True, eq=False)
class StrippedImages:
    """A patient's images without skull.

    Parameters
    ----------
    brain : Volume
        Boolean, on the T1Gd's grid.
    source : {"stripped", "given", "extracted"}
        Whether the T1Gd had no skull, the mask was given, or it was extracted.
    images : dict of str to Volume
        By role, float32, all on the T1Gd's grid, 0 outside the brain.
    alignment : dict of str to Alignment
        How the others lay to the T1Gd, by role.
    """

    brain: Volume
    source: str
    images: dict[str, Volume]
    alignment: dict[str, Alignment]


def strip_images(
    t1gd: Volume,
    others: Mapping[str, Volume] | None = None,
    *,
    brain_mask: Volume | None = None,
    align: bool = True,
    progress: Progress = no_progress,
) -> StrippedImages:
    """Find the brain, move the other images onto the T1Gd, and leave nothing of them but the brain.

    Parameters
    ----------
    t1gd : Volume
        float32, with or without skull.
    others : mapping of str to Volume, optional
        Further images of the same head by role, float32, each on any grid.
    brain_mask : Volume, optional
        Boolean, on any grid; found in the T1Gd without it.
    align : bool
        Leave the others as they lie where False.
    progress : Progress

    Raises
    ------
    InputError
        When an image has one value only, or no brain is found.
    """
    others = others or {}
    brain, has_skull = find_brain(t1gd)
    if brain_mask is not None:
        found, source = resample_mask(brain_mask, t1gd.grid), "given"
    elif has_skull:
        progress(0.0, "Extracting the brain")
        found, source = extract_brain(t1gd, progress=part(progress, 0.0, 0.5)), "extracted"
    else:
        found, source = Volume(brain, t1gd.grid), "stripped"
    alignment = align_images(t1gd, others, progress=part(progress, 0.5, 0.95)) if align else {}
    images = {"t1gd": _within(t1gd, found)}
    for role, image in others.items():
        grid = image.grid.moved(alignment[role].applied) if role in alignment else image.grid
        images[role] = _within(resample(Volume(image.array, grid), t1gd.grid), found)
    return StrippedImages(found, source, images, alignment)


def _within(image: Volume, brain: Volume) -> Volume:
    return Volume(np.where(brain.array, image.array, np.float32(0)), image.grid)
