"""What the labels of a tumour segmentation mean.

The same numbers mean different tissue in different data sets, so a convention is
named by the user; only the label set {1, 2, 4} is used by one convention alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError


@dataclass(frozen=True)
class LabelConvention:
    """Which labels make up the core and the whole tumour.

    Parameters
    ----------
    core, whole : tuple of str
        Label numbers, or segment names of a Slicer segmentation. The core (necrosis,
        non-enhancing and enhancing tumour; the region seen in T1Gd) is part of the
        whole tumour (everything abnormal in FLAIR).
    not_tumour : tuple of str
        Labels that the convention knows and that are no tumour, such as a
        resection cavity.

    Raises
    ------
    InputError
        When a label of the core is not among those of the whole tumour.
    """

    core: tuple[str, ...]
    whole: tuple[str, ...]
    not_tumour: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole = {label.casefold() for label in self.whole}
        outside = [label for label in self.core if label.casefold() not in whole]
        if outside or not self.whole:
            raise InputError(
                f"The whole tumour includes the core, but core={','.join(self.core)} has labels that "
                f"whole={','.join(self.whole)} has not; name them in both."
            )


#: BraTS 2012-2016, 2017-2021, 2023 and 2024 (post-treatment, 4 = resection cavity), Medical Segmentation Decathlon.
CONVENTIONS: Mapping[str, LabelConvention] = {
    "brats2013": LabelConvention(core=("1", "3", "4"), whole=("1", "2", "3", "4")),
    "brats2018": LabelConvention(core=("1", "4"), whole=("1", "2", "4")),
    "brats2023": LabelConvention(core=("1", "3"), whole=("1", "2", "3")),
    "brats2024": LabelConvention(core=("1", "3"), whole=("1", "2", "3"), not_tumour=("4",)),
    "decathlon": LabelConvention(core=("2", "3"), whole=("1", "2", "3")),
}

LARGEST_LABEL = 255

ACCEPTED_LABELS = (
    "brats2013 (1, 2, 3, 4; 3 = non-enhancing core), brats2018 (1, 2, 4), brats2023 (1, 2, 3; 3 = enhancing), "
    "brats2024 (4 = resection cavity), decathlon (1 = oedema, 2 and 3 = core), or the form core=1,4/whole=1,2,4"
)

#: Segment names that say what they are, letters only, in lower case.
CORE_NAMES = frozenset({"core", "tumorcore", "tumourcore", "tc"})
WHOLE_NAMES = frozenset({"whole", "wholetumor", "wholetumour", "wt"})
CORE_PART_NAMES = frozenset(
    {"enhancing", "enhancingtumor", "enhancingtumour", "et", "necrosis", "necrotic", "necroticcore", "ncr", "net"}
    | {"nonenhancing", "nonenhancingtumor", "nonenhancingtumour", "nonenhancingcore"}
)
EDEMA_NAMES = frozenset({"edema", "oedema", "ed", "peritumoraledema", "peritumouraloedema"})


def parse_labels(text: str) -> LabelConvention:
    """The convention that a user names, or spells out as `core=1,4/whole=1,2,4`.

    For a Slicer segmentation the same form takes segment names:
    `core=necrosis,enhancing/whole=necrosis,enhancing,edema`.

    Raises
    ------
    InputError
        When the text is neither.
    """
    if text in CONVENTIONS:
        return CONVENTIONS[text]
    spelled = re.fullmatch(r"\s*core=(.*)/\s*whole=(.*)", text)
    if spelled is None:
        raise InputError(f"The label convention {text!r} is not known; known are {ACCEPTED_LABELS}.")
    core, whole = (tuple(name.strip() for name in part.split(",") if name.strip()) for part in spelled.groups())
    return LabelConvention(core, whole)


def regions_from_label_map(array: NDArray, labels: str | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Core and whole tumour of a label map.

    Parameters
    ----------
    array : ndarray, any shape
        Whole numbers, of a floating type too; 0 is background.
    labels : str or None
        A name in `CONVENTIONS` or the form `core=1,4/whole=1,2,4`; None recognises
        the label set {1, 2, 4}, which only brats2018 uses, and no other.

    Returns
    -------
    core, whole : ndarray of bool, shape array.shape

    Raises
    ------
    InputError
        When the values are not whole numbers, the convention is neither named nor
        clear, or the map holds labels that it does not know.
    """
    convention = None if labels is None else parse_labels(labels)
    if not np.isfinite(array).all():
        raise InputError(
            "The segmentation holds values that are not numbers (NaN or infinite); labels are 0, 1, 2, ..."
        )
    lowest, highest = float(array.min()), float(array.max())
    if lowest < 0 or highest > LARGEST_LABEL or (array.dtype.kind == "f" and (array != np.rint(array)).any()):
        raise InputError(
            f"The segmentation holds values from {lowest:g} to {highest:g}; a label map holds whole numbers up to "
            f"{LARGEST_LABEL}. Is this file an image?"
        )
    counts = np.bincount(array.astype(np.uint8).ravel(), minlength=1)
    found = [int(label) for label in np.flatnonzero(counts) if label != 0]
    listed = ", ".join(map(str, found[:12])) + (", ..." if len(found) > 12 else "")
    if not found:
        raise InputError("The segmentation is empty: every voxel is 0.")
    if convention is None:
        if found != [1, 2, 4]:
            raise InputError(
                f"The segmentation holds the labels {listed}, which can mean different tissue; "
                f"name the convention with labels (--labels): {ACCEPTED_LABELS}."
            )
        convention = CONVENTIONS["brats2018"]
    core, whole = (_label_numbers(part) for part in (convention.core, convention.whole))
    if labels in CONVENTIONS:
        unknown = sorted(set(found) - set(whole) - set(_label_numbers(convention.not_tumour)))
        if unknown:
            raise InputError(
                f"The segmentation holds the labels {listed}; {labels} does not know {', '.join(map(str, unknown))}. "
                f"Known are {ACCEPTED_LABELS}."
            )
    if not set(found) & set(whole):
        raise InputError(f"The segmentation holds the labels {listed}, and none of them is tumour by {labels}.")
    return np.isin(array, core), np.isin(array, whole)


def regions_from_segments(
    segments: Sequence[tuple[str, NDArray[np.bool_]]], labels: str | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Core and whole tumour of a Slicer segmentation, by the names of its segments.

    Parameters
    ----------
    segments : sequence of (name, mask)
        Masks are boolean arrays of one shape.
    labels : str or None
        `core=NAME,.../whole=NAME,...` (upper and lower case alike); None recognises
        names that say what they are, such as "core" and "whole tumour", or
        "necrosis", "enhancing" and "edema".

    Returns
    -------
    core, whole : ndarray of bool

    Raises
    ------
    InputError
        When the names do not tell which segments are the core and the whole tumour,
        or a named segment is not there.
    """
    names = [name for name, _ in segments]
    listed = ", ".join(repr(name) for name in names)
    if not segments:
        raise InputError("The segmentation holds no segments.")
    if labels in CONVENTIONS:
        raise InputError(
            f"This segmentation is read by segment name (it holds {listed}), and {labels} speaks of label numbers; "
            "use the form core=NAME,.../whole=NAME,..."
        )
    if labels is not None:
        convention = parse_labels(labels)
        missing = [n for n in convention.whole if n.casefold() not in {name.casefold() for name in names}]
        if missing:
            raise InputError(f"The segmentation has no segment {', '.join(map(repr, missing))}; it holds {listed}.")
        core_names = {name.casefold() for name in convention.core}
        whole_names = {name.casefold() for name in convention.whole}
        is_core = [name.casefold() in core_names for name in names]
        is_whole = [name.casefold() in whole_names for name in names]
    else:
        plain = ["".join(c for c in name.casefold() if c.isalpha()) for name in names]
        is_core = [name in CORE_NAMES | CORE_PART_NAMES for name in plain]
        is_whole = [core or name in WHOLE_NAMES | EDEMA_NAMES for core, name in zip(is_core, plain)]
        whole_is_named = any(name in WHOLE_NAMES for name in plain)
        core_is_named = any(name in CORE_NAMES for name in plain)
        complete = whole_is_named or any(name in EDEMA_NAMES for name in plain)
        # A segment of unknown meaning is left out only where nothing can be missing without it.
        if not complete or not (all(is_whole) or (whole_is_named and core_is_named)):
            raise InputError(
                f"The names of the segments {listed} do not tell what is core and what is the whole tumour; "
                "name them with labels (--labels), as core=NAME,.../whole=NAME,..."
            )
    empty = np.zeros(segments[0][1].shape, dtype=bool)
    masks = [mask for _, mask in segments]
    return (
        np.logical_or.reduce([empty, *(mask for mask, chosen in zip(masks, is_core) if chosen)]),
        np.logical_or.reduce([empty, *(mask for mask, chosen in zip(masks, is_whole) if chosen)]),
    )


def _label_numbers(labels: Sequence[str]) -> list[int]:
    """Label numbers from a convention's text.

    Raises `InputError` for a name, which only a Slicer segmentation has.
    """
    try:
        return [int(label) for label in labels]
    except ValueError as error:
        raise InputError(
            f"The labels {', '.join(labels)} are to be whole numbers for a label map; "
            "names are for a Slicer segmentation (.seg.nrrd)."
        ) from error
