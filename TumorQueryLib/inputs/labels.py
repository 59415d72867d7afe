"""What the labels of a tumour segmentation mean.

The same numbers mean different tissue in different data sets, and no set of them
belongs to one alone, so a convention is always named by the user. Only a segmentation's
own segments can say what they are: first by a name that says core or whole, then by
terminology codes, then by the names of a tumour's parts.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.inputs.checks import Segment, finite_values


def _plain(name: str) -> str:
    """A name without upper case and double spaces, accents written in one way: macOS and Slicer differ in both."""
    composed = unicodedata.normalize("NFC", name)
    return unicodedata.normalize("NFC", " ".join(composed.split()).casefold())


@dataclass(frozen=True)
class LabelConvention:
    """Which labels make up the core and the whole tumour.

    Parameters
    ----------
    core, whole : tuple of str
        Label numbers, or segment names of a Slicer segmentation. The core (necrosis,
        non-enhancing and enhancing tumour; the region seen in T1Gd) is part of the
        whole tumour (everything abnormal in FLAIR).
    meanings : dict of str to str
        What each number stands for, those that are no tumour too, such as a resection
        cavity; empty for a convention that a user spells out.

    Raises
    ------
    InputError
        When a label of the core is not among those of the whole tumour.
    """

    core: tuple[str, ...]
    whole: tuple[str, ...]
    meanings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        whole = {_plain(label) for label in self.whole}
        outside = [label for label in self.core if _plain(label) not in whole]
        if outside or not self.whole:
            raise InputError(
                f"The whole tumour includes the core, but core={','.join(self.core)} has labels that "
                f"whole={','.join(self.whole)} has not; name them in both."
            )


@dataclass(frozen=True, eq=False)
class Regions:
    """Core and whole tumour, boolean arrays, the convention by which they were read, and what is odd about it.

    `cavity` is the resection cavity, boolean; None where the segmentation has none. It is no part of the tumour.
    """

    core: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    labels: str
    warnings: tuple[str, ...] = ()
    cavity: NDArray[np.bool_] | None = None


CAVITY = "resection cavity"

#: BraTS 2012-2016, 2017-2021, 2023, 2024 (post-treatment) and of children, Medical Segmentation Decathlon.
CONVENTIONS: Mapping[str, LabelConvention] = {
    "brats2013": LabelConvention(
        core=("1", "3", "4"),
        whole=("1", "2", "3", "4"),
        meanings={"1": "necrosis", "2": "oedema", "3": "non-enhancing", "4": "enhancing"},
    ),
    "brats2018": LabelConvention(
        core=("1", "4"),
        whole=("1", "2", "4"),
        meanings={"1": "necrosis and non-enhancing", "2": "oedema", "4": "enhancing"},
    ),
    "brats2023": LabelConvention(
        core=("1", "3"), whole=("1", "2", "3"), meanings={"1": "necrosis", "2": "oedema", "3": "enhancing"}
    ),
    "brats2024": LabelConvention(
        core=("1", "3"),
        whole=("1", "2", "3"),
        meanings={"1": "non-enhancing", "2": "oedema", "3": "enhancing", "4": CAVITY},
    ),
    "brats-peds": LabelConvention(
        core=("1", "2", "3"),
        whole=("1", "2", "3", "4"),
        meanings={"1": "enhancing", "2": "non-enhancing", "3": "cyst", "4": "oedema"},
    ),
    "decathlon": LabelConvention(
        core=("2", "3"), whole=("1", "2", "3"), meanings={"1": "oedema", "2": "non-enhancing", "3": "enhancing"}
    ),
}

LARGEST_LABEL = 255
#: Tools that scale or resample a label map store its numbers with rounding, up to this much.
ROUNDING = 0.01

SPELLED_OUT = "core=1,4/whole=1,2,4"
ACCEPTED_LABELS = f"{', '.join(CONVENTIONS)}, or spelled out like {SPELLED_OUT}"

#: Segment names that say what they are, letters only, in lower case.
CORE_NAMES = frozenset({"core", "tumorcore", "tumourcore", "tc"})
WHOLE_NAMES = frozenset({"whole", "wholetumor", "wholetumour", "wt"})
NECROSIS_NAMES = frozenset({"necrosis", "necrotic", "necroticcore", "ncr", "necrosisinnecrosis"})
ENHANCING_NAMES = frozenset({"enhancing", "enhancingtumor", "enhancingtumour", "enhancinglesion", "et"})
#: BraTS' terms (NETC, ET), Slicer's, and those by which MONAIAuto3DSeg shows its segments.
CORE_PART_NAMES = (
    NECROSIS_NAMES
    | ENHANCING_NAMES
    | {"nonenhancing", "nonenhancingtumor", "nonenhancingtumour", "nonenhancingcore", "net", "netc"}
    | {"neoplasm", "neoplasmprimary", "neoplasmprimaryinneoplasmprimary"}
)
EDEMA_NAMES = frozenset(
    {"edema", "oedema", "ed", "peritumoraledema", "peritumouraloedema", "edemainedema", "snfh"}
    | {"edemaperitumoral", "oedemaperitumoural"}
)
#: What names of a tumour hold that do not say which part of it is meant.
NEOPLASM_WORDS = ("neoplasm", "tumor", "tumour", "gtv", "mass", "lesion", "glioma")
#: What segmentations of a tumour hold beside it (BraTS 2024: RC).
NO_TUMOUR_NAMES = frozenset({"rc", "resectioncavity"})

#: Meanings that a name gives and no code takes away.
SAID_BY_NAME = ("core", "whole", "none")

#: SNOMED CT (and as it was coded before, SRT) and NCI Thesaurus, in lower case: necrosis, neoplasm, enhancing lesion;
#: oedema.
NECROSIS_CODES = frozenset({"sct 6574001", "srt m-54000"})
NEOPLASM_CODES = frozenset({"sct 86049000", "srt m-80003"})
ENHANCING_CODES = frozenset({"ncit c113842"})
CORE_CODES = NECROSIS_CODES | NEOPLASM_CODES | ENHANCING_CODES
EDEMA_CODES = frozenset({"sct 79654002", "srt m-36300"})


def parse_labels(text: str) -> LabelConvention:
    """The convention that a user names, or spells out as `core=1,4/whole=1,2,4`.

    For a Slicer segmentation the same form takes segment names, those with a comma in
    quotes: `core=necrosis,"Neoplasm, Primary"/whole=necrosis,"Neoplasm, Primary",edema`.

    Raises
    ------
    InputError
        When the text is neither.
    """
    if text in CONVENTIONS:
        return CONVENTIONS[text]
    spelled = re.fullmatch(r"\s*core\s*=(.*)/\s*whole\s*=(.*)", text, re.DOTALL)
    if spelled is None:
        raise InputError(f"The label convention {text!r} is not known; known are {ACCEPTED_LABELS}.")
    parts = []
    for part in spelled.groups():
        try:
            (names,) = csv.reader([part.strip()], skipinitialspace=True, strict=True) if part.strip() else [[]]
        except (csv.Error, ValueError) as error:
            raise InputError(
                f"The labels {text!r} cannot be read: a name with a comma is put in quotes, like "
                'core="Neoplasm, Primary"/whole="Neoplasm, Primary",Edema.'
            ) from error
        parts.append(tuple(name.strip() for name in names if name.strip()))
    core, whole = parts
    return LabelConvention(core, whole)


def meanings_of(found: Sequence[int]) -> str:
    """What labels can mean: each convention that knows them all, with the meaning of each number."""
    fitting = [
        f"{name} ({', '.join(f'{label} {convention.meanings[str(label)]}' for label in found)})"
        for name, convention in CONVENTIONS.items()
        if {str(label) for label in found} <= set(convention.meanings)
    ]
    return "; ".join(fitting) if fitting else "no known convention has all of them"


#: Words of a name, and what they suggest, the first that holds; for names that none of the tables above has whole.
SUGGESTIVE_WORDS: Mapping[str, frozenset[str]] = {
    "none": frozenset(
        {"brain", "skull", "head", "scalp", "skin", "csf", "ventricle", "ventricles", "gray"}
        | {"grey", "white", "matter", "gm", "wm", "cavity", "resection", "rc", "vessel"}
        | {"vessels", "air", "background", "cerebellum", "brainstem", "healthy", "normal"}
    ),
    "oedema": frozenset({"edema", "oedema", "ed", "peritumoral", "peritumoural", "flair", "snfh", "surrounding"}),
    "whole": frozenset({"whole", "wt"}),
    "core": frozenset(
        {"core", "tc", "necrosis", "necrotic", "ncr", "net", "netc", "et", "enhancing"}
        | {"nonenhancing", "enhancement", "cyst", "cystic", "contrast"}
    ),
    "tumour": frozenset({"tumor", "tumour", "neoplasm", "glioma", "glioblastoma", "gbm", "lesion"}),
}
#: Words that take away the word behind them, unless they make one with it ("non-enhancing").
NEGATIONS = frozenset(["no", "non", "not", "without", "excluding"])


def suggested_meaning(name: str, code: str = "") -> str | None:
    """What a segment's name suggests that it is, or else its code, for a panel whose user confirms it.

    Reads more than `regions_from_segments` takes for granted, and never otherwise: a name
    that the tables have whole means what it means there; of others the words are read.

    Parameters
    ----------
    name : str
        As written by whoever segmented: "EnhancingTumor", "Tumor_core", "NCR (1)".
    code : str
        Scheme and value of its terminology, such as "SCT 79654002"; asked where the name says nothing.

    Returns
    -------
    {"core", "oedema", "whole", "tumour", None}
        The core or a part of it; oedema; the whole tumour; tumour of which the name does
        not say which part; None for anything else, such as a cavity or "No tumour".
    """
    known_as = _meaning_of_name(name)
    if known_as is not None:
        return {"part": "core", "none": None}.get(known_as, known_as)
    said: set[str] = set()
    negated = False
    words = _words(name)
    for word, following in zip(words, [*words[1:], ""]):
        if word in NEGATIONS:
            joined = following.startswith("enhanc")
            said |= {"nonenhancing"} if joined else set()
            negated = True
        elif negated:
            negated = False
        else:
            said.add(word)
    for meaning, known in SUGGESTIVE_WORDS.items():
        if said & known:
            return None if meaning == "none" else meaning
    if NEGATIONS & set(words):
        return None
    by_code = _meaning_of_code(code)
    return "tumour" if code.casefold() in NEOPLASM_CODES else {"part": "core"}.get(by_code or "", by_code)


def is_cavity(name: str) -> bool:
    """Whether a segment's name says that it is the resection cavity, as "Resection cavity" and "RC" do."""
    return _letters(name) in NO_TUMOUR_NAMES


def _words(name: str) -> list[str]:
    """The words of a name in lower case, split at capitals, digits and signs too."""
    spaced = re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    spaced = "".join(f" {c}" if before.islower() and c.isupper() else c for before, c in zip(f" {spaced}", spaced))
    return re.findall(r"[^\W\d_]+", _plain(spaced))


def regions_from_label_map(array: NDArray, labels: str | None) -> Regions:
    """Core and whole tumour of a label map.

    Parameters
    ----------
    array : ndarray, any shape
        Whole numbers, of a floating type too and off by rounding up to 0.01; 0 is
        background, and so is what is NaN or infinite, with a warning.
    labels : str or None
        A name in `CONVENTIONS` or the form `core=1,4/whole=1,2,4`. None is refused with
        what the numbers can mean.

    Returns
    -------
    Regions
        Arrays of shape array.shape.

    Raises
    ------
    InputError
        When the values are not whole numbers, the convention is not named, or the map
        holds labels that it does not know.
    """
    convention = None if labels is None else parse_labels(labels)
    said: list[str] = []
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        array = finite_values(array, "segmentation", "segmentation", said)
    numbers = _whole_numbers(array)
    counts = np.bincount(numbers.ravel(), minlength=1)
    found = [int(label) for label in np.flatnonzero(counts) if label != 0]
    listed = ", ".join(map(str, found[:12])) + (", ..." if len(found) > 12 else "")
    if not found:
        raise InputError("The segmentation is empty: every voxel is 0.")
    if convention is None or labels is None:
        raise InputError(
            f"The segmentation holds the labels {listed}, and numbers do not say what they mean: {meanings_of(found)}. "
            f"Name the convention with labels (--labels): {ACCEPTED_LABELS}."
        )
    core, whole = (_label_numbers(part) for part in (convention.core, convention.whole))
    if not all(1 <= label <= LARGEST_LABEL for label in whole):
        raise InputError(
            f"The labels {labels.strip()} name {next(n for n in whole if not 1 <= n <= LARGEST_LABEL)}; labels of a "
            f"tumour are whole numbers from 1 to {LARGEST_LABEL}, and 0 is the background."
        )
    unknown = [label for label in found if convention.meanings and str(label) not in convention.meanings]
    if unknown:
        raise InputError(
            f"The segmentation holds the labels {listed}; {labels} does not know {', '.join(map(str, unknown[:12]))}. "
            f"What they can mean: {meanings_of(found)}. Known are {ACCEPTED_LABELS}."
        )
    if not set(found) & set(whole):
        raise InputError(f"The segmentation holds the labels {listed}, and none of them is tumour by {labels}.")
    absent = [] if convention.meanings else sorted(set(whole) - set(found))
    if absent:
        said.append(
            f"The segmentation has no label {', '.join(map(str, absent[:12]))}, which {labels.strip()} names; it holds "
            f"{listed}. Labels that are not named are left out."
        )
    hollow = [int(label) for label, meaning in convention.meanings.items() if meaning == CAVITY]
    cavity = np.isin(numbers, hollow) if set(found) & set(hollow) else None
    return Regions(np.isin(numbers, core), np.isin(numbers, whole), labels.strip(), tuple(said), cavity)


def _whole_numbers(array: NDArray) -> NDArray[np.uint8]:
    """Labels as uint8, stored with rounding or not.

    Raises `InputError`, which names a value that is no label.
    """
    numbers = np.rint(array) if array.dtype.kind == "f" else array
    lowest, highest = float(numbers.min()), float(numbers.max())
    between = np.abs(array - numbers) > ROUNDING if array.dtype.kind == "f" else np.zeros(0, dtype=bool)
    if lowest < 0 or highest > LARGEST_LABEL or between.any():
        example = f", such as {float(array[between].ravel()[0]):g}" if between.any() else ""
        raise InputError(
            f"The segmentation holds values from {float(array.min()):g} to {float(array.max()):g}{example}; a label "
            f"map holds whole numbers from 0 to {LARGEST_LABEL}. Is this file an image, or was it resampled without "
            "nearest neighbours?"
        )
    return numbers.astype(np.uint8)


def regions_from_segments(segments: Sequence[Segment], labels: str | None) -> Regions:
    """Core and whole tumour of a segmentation in segments (Slicer's, DICOM SEG, RTSTRUCT).

    Parameters
    ----------
    segments : sequence of Segment
        Masks of one shape.
    labels : str or None
        `core=NAME,.../whole=NAME,...` (upper and lower case and ways to write an accent
        alike). None takes what the segments say themselves: names such as "core" and
        "whole tumour"; then terminology codes, where the segments carry different
        ones; then names of parts, such as "necrosis", "enhancing" and "edema".

    Returns
    -------
    Regions

    Raises
    ------
    InputError
        When nothing tells which segments are the core and the whole tumour, or a named
        segment is not there.
    """
    names = [segment.name for segment in segments]
    listed = ", ".join(repr(name) for name in names)
    if not segments:
        raise InputError("The segmentation holds no segments.")
    if labels in CONVENTIONS:
        raise InputError(
            f"This segmentation is read by segment name (it holds {listed}), and {labels} speaks of label numbers; "
            "use the form core=NAME,.../whole=NAME,..."
        )
    warnings: list[str] = []
    if labels is not None:
        convention = parse_labels(labels)
        there = {_plain(name) for name in names}
        missing = [name for name in convention.whole if _plain(name) not in there]
        if missing:
            raise InputError(
                f"The segmentation has no segment {', '.join(map(repr, missing))}; it holds {listed} (a name with a "
                "comma is put in quotes)."
            )
        core_names, whole_names = ({_plain(name) for name in part} for part in (convention.core, convention.whole))
        is_core = [_plain(name) in core_names for name in names]
        is_whole = [_plain(name) in whole_names for name in names]
        said = labels.strip()
    else:
        is_core, is_whole, said = _by_what_they_say(segments, warnings)
    core, whole = (np.zeros(segments[0].voxels.shape, dtype=bool) for _ in range(2))
    for region, is_in_it in ((core, is_core), (whole, is_whole)):
        for segment, chosen in zip(segments, is_in_it):
            if chosen:
                region |= segment.mask
    hollow = [segment.mask for segment, tumour in zip(segments, is_whole) if not tumour and is_cavity(segment.name)]
    # Templates have segments that nobody drew in.
    cavity = np.logical_or.reduce(hollow) if hollow else np.zeros(0, bool)
    return Regions(core, whole, said, tuple(warnings), cavity if cavity.any() else None)


def _by_what_they_say(segments: Sequence[Segment], warnings: list[str]) -> tuple[list[bool], list[bool], str]:
    """Which segments are core, which are whole tumour, and by what that was read.

    Raises `InputError` where they do not say; adds to `warnings`.
    """
    names = [segment.name for segment in segments]
    by_name = [_meaning_of_name(name) for name in names]
    core_is_named, whole_is_named = "core" in by_name, "whole" in by_name
    # Many tools give every segment the same code, which says nothing of one; names for both regions leave no question.
    codes_count = len({segment.code for segment in segments} - {""}) > 1 and not (core_is_named and whole_is_named)
    by_code = [_meaning_of_code(segment.code) if codes_count else None for segment in segments]
    meanings = [name if name in SAID_BY_NAME or code is None else code for name, code in zip(by_name, by_code)]
    # Beside a segment that is named the core, a code alone does not say whether another one belongs to it.
    meanings = [
        None if core_is_named and meaning == "part" and name is None else meaning
        for meaning, name in zip(meanings, by_name)
    ]
    is_core = [meaning in ("core", "part") for meaning in meanings]
    is_whole = [meaning in ("core", "part", "whole", "oedema") for meaning in meanings]
    complete = whole_is_named or "oedema" in meanings
    # A segment of unknown meaning is left out only where nothing can be missing without it.
    told = complete and (None not in meanings or (whole_is_named and core_is_named))
    necrosis_only = _core_is_only(NECROSIS_NAMES, NECROSIS_CODES, segments, meanings)
    # Where the rest of the neoplasm lies in another segment, its core is not the necrosis alone.
    neoplasm_elsewhere = any(
        name in ("whole", "part") or (name is None and any(word in _letters(segment.name) for word in NEOPLASM_WORDS))
        for segment, name, core in zip(segments, by_name, is_core)
        if not core
    )
    if not told or (necrosis_only and neoplasm_elsewhere):
        hint = ""
        if told:
            hint = ", since the necrosis alone is not the core"
        elif any("gtv" in _plain(name) for name in names):
            hint = " ('GTV' alone does not say core or whole tumour)"
        raise InputError(
            f"The names of the segments {', '.join(map(repr, names))} do not tell what is core and what is the whole "
            f"tumour{hint}; name them with labels (--labels), as core=NAME,.../whole=NAME,... (a name with a comma in "
            "quotes)."
        )
    for segment, name, code in zip(segments, by_name, by_code):
        if {name, code} == {"part", "oedema"}:
            warnings.append(
                f"The segment {segment.name!r} is {'oedema' if name == 'oedema' else 'part of the core'} by its name "
                f"and {'oedema' if code == 'oedema' else 'part of the core'} by its code ({segment.code}), which was "
                "taken; name the segments with labels where that is wrong."
            )
    if necrosis_only:
        warnings.append(
            "The only segment of the core is the necrosis; is the tumour around it missing in the segmentation?"
        )
    if _core_is_only(ENHANCING_NAMES, ENHANCING_CODES, segments, meanings):
        warnings.append(
            "The only segment of the core is the enhancing tumour; does the segmentation miss the necrosis within it, "
            "or count it as oedema?"
        )
    sources = {
        "segment names" if code is None or name in SAID_BY_NAME else "terminology codes"
        for name, code, chosen in zip(by_name, by_code, is_whole)
        if chosen
    }
    source = " and ".join(sorted(sources))
    core, whole = (
        ",".join(f'"{name}"' if "," in name else name for name, chosen in zip(names, part) if chosen)
        for part in (is_core, is_whole)
    )
    return is_core, is_whole, f"{source}: core={core}/whole={whole}"


def _letters(name: str) -> str:
    """The letters of a name, in lower case."""
    return "".join(c for c in _plain(name) if c.isalpha())


def _meaning_of_name(name: str) -> str | None:
    """What a name says: "core", "whole", "part" (of the core), "oedema", "none" of the tumour, or nothing (None)."""
    letters = _letters(name)
    tables = {
        "core": CORE_NAMES,
        "whole": WHOLE_NAMES,
        "part": CORE_PART_NAMES,
        "oedema": EDEMA_NAMES,
        "none": NO_TUMOUR_NAMES,
    }
    return next((meaning for meaning, table in tables.items() if letters in table), None)


def _meaning_of_code(code: str) -> str | None:
    """What a terminology code says: "part" (of the core), "oedema", or nothing (None)."""
    code = code.casefold()
    return "part" if code in CORE_CODES else "oedema" if code in EDEMA_CODES else None


def _core_is_only(
    part_names: frozenset[str], part_codes: frozenset[str], segments: Sequence[Segment], meanings: Sequence[str | None]
) -> bool:
    """Whether all that makes up the core is one part of it, such as necrosis, by name or code."""
    core = [segment for segment, meaning in zip(segments, meanings) if meaning in ("core", "part")]
    return bool(core) and all(
        segment.code.casefold() in part_codes
        if _meaning_of_name(segment.name) is None
        else _letters(segment.name) in part_names
        for segment in core
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
            "names are for a segmentation in segments (.seg.nrrd, DICOM SEG or RTSTRUCT)."
        ) from error
