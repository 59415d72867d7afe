"""On which of a patient's images a segmentation was drawn, as far as DICOM's identifiers say it."""

from __future__ import annotations

from collections.abc import Mapping

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.inputs.checks import ImageFile

#: What the images are called in sentences.
IMAGE_NAMES = {"t1gd": "T1Gd", "flair": "FLAIR", "t1": "T1"}


def image_drawn_on(drawn: ImageFile, images: Mapping[str, ImageFile], name: str, said: list[str]) -> str | None:
    """The role of the image that a segmentation was drawn on.

    Parameters
    ----------
    drawn : ImageFile
        The segmentation, or a mask.
    images : mapping of str to ImageFile
        By role: "t1gd" and, where there are any, "flair" and "t1".
    name : str
        What `drawn` is; errors name it.
    said : list of str
        Gets the warning that the series and the frame of reference contradict each other.

    Returns
    -------
    str or None
        By the series that the segmentation says it was drawn on, else by the frame of
        reference that it shares with one image alone; None where neither tells, as with
        files that are no DICOM.

    Raises
    ------
    InputError
        When the segmentation names no series of these and lies in another frame of reference than
        the T1Gd and all other images: its coordinates then say nothing about this patient's images.
    """
    for role, image in images.items():
        if drawn.drawn_on is not None and image.series == drawn.drawn_on:
            frames = {drawn.frame_of_reference, image.frame_of_reference} - {None}
            if len(frames) > 1:
                said.append(
                    f"The {name} says that it was drawn on the {IMAGE_NAMES[role]}'s series, and that it lies in "
                    "another frame of reference (DICOM) than it; it is taken to lie on it. Check that in a viewer."
                )
            return role
    if drawn.frame_of_reference is None:
        return None
    sharing = [role for role, image in images.items() if image.frame_of_reference == drawn.frame_of_reference]
    if not sharing and images["t1gd"].frame_of_reference is not None:
        given = " and ".join(IMAGE_NAMES[role] for role in images)
        raise InputError(
            f"The {name} lies in another frame of reference (DICOM) than {given}, so its coordinates say nothing about "
            "them: give the image that it was drawn on as well, or draw it on the T1Gd."
        )
    return sharing[0] if len(sharing) == 1 else None
