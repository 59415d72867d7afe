"""What the series of a study are, by what their headers say: a pure function of header values.

Names alone mislead ("AX T1 POST GD FLAIR" is a T1 with contrast, "Ax T1 3d NEURONAVEGADOR"
may be one), so the words of the description are held against the timing, and whether
contrast was given is known by the header's contrast tags, by words that say it, or by the
time at which a series was taken. What none of these tells is called unclear.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

#: What a series can be taken for.
T1GD, T1, FLAIR, T2 = "t1gd", "t1", "flair", "t2"
EITHER_T1 = "t1 or t1gd"
LOCALIZER, DERIVED, OTHER = "localizer", "derived", "diffusion/other"
SEGMENTATION, CONTOURS, DOSE, MAP = "segmentation", "contours", "dose", "map"

CERTAIN, LIKELY, UNCLEAR = "certain", "likely", "unclear"
CONFIDENCES = (CERTAIN, LIKELY, UNCLEAR)

#: What is no image, by its SOP class and else by its Modality.
KINDS_BY_CLASS = {
    "1.2.840.10008.5.1.4.1.1.66.4": SEGMENTATION,
    "1.2.840.10008.5.1.4.1.1.66.7": SEGMENTATION,
    "1.2.840.10008.5.1.4.1.1.66.5": SEGMENTATION,
    "1.2.840.10008.5.1.4.1.1.481.3": CONTOURS,
    "1.2.840.10008.5.1.4.1.1.481.2": DOSE,
    "1.2.840.10008.5.1.4.1.1.30": MAP,
}
KINDS_BY_MODALITY = {"SEG": SEGMENTATION, "RTSTRUCT": CONTOURS, "RTDOSE": DOSE}
NO_SCAN = {
    "1.2.840.10008.5.1.4.1.1.7": "a picture of the screen (secondary capture)",
    "1.2.840.10008.5.1.4.1.1.4.2": "spectroscopy",
    "1.2.840.10008.5.1.4.1.1.66": "raw data",
}

#: Two T1 are alike where their numbers differ by no more than this share.
ALIKE = 0.1


@dataclass(frozen=True)
class SeriesHeader:
    """What the headers of a series say, as far as it matters here; no name of a patient.

    Parameters
    ----------
    uid, study_uid : str
    sop_class, modality : str
    number : int, optional
    description, protocol : str
    image_type : tuple of str
        Upper case.
    sequence_name, scanning_sequence : str
    acquisition_type : str
        "2D" or "3D".
    acquisition_contrast : str
        Of Enhanced MR, such as "T1" or "FLUID_ATTENUATED".
    echo_time, repetition_time, inversion_time : float, optional
        ms.
    contrast : bool, optional
        Whether the contrast tags say that an agent was given; None where they say nothing.
    taken_at : str
        Date and time of the first image, "YYYYMMDDHHMMSS.ffffff"; empty where it is not known.
    plane : str
        "axial", "coronal", "sagittal", "oblique", "several" or empty.
    images : int
        Frames.
    voxel_mm : tuple of float
        Along a row, along a column, from slice to slice; empty where they are not known.
    parts : tuple of str
        Names of a segmentation's segments, or of the contours.
    """

    uid: str
    study_uid: str = ""
    sop_class: str = "1.2.840.10008.5.1.4.1.1.4"
    modality: str = "MR"
    number: int | None = None
    description: str = ""
    protocol: str = ""
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY")
    sequence_name: str = ""
    scanning_sequence: str = ""
    acquisition_type: str = ""
    acquisition_contrast: str = ""
    echo_time: float | None = None
    repetition_time: float | None = None
    inversion_time: float | None = None
    contrast: bool | None = None
    taken_at: str = ""
    plane: str = ""
    images: int = 1
    voxel_mm: tuple[float, ...] = ()
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """What a series is taken for, how sure that is, and why; of a T1, whether its own header leaves contrast open."""

    role: str
    confidence: str
    why: str
    contrast_open: bool = False


def classify_series(series: Sequence[SeriesHeader]) -> list[Kind]:
    """What each of the series is; those of one study explain one another.

    Parameters
    ----------
    series : sequence of SeriesHeader
        Of any number of studies.

    Returns
    -------
    list of Kind
        In the order of `series`.
    """
    alone = [classify_alone(header) for header in series]
    return [
        _in_its_study(
            n, header, kind, [m for m, other in enumerate(series) if other.study_uid == header.study_uid], series, alone
        )
        for n, (header, kind) in enumerate(zip(series, alone))
    ]


def classify_alone(header: SeriesHeader) -> Kind:
    """What a series is by its own headers."""
    other = _no_scan(header)
    if other is not None:
        return other
    said = _said(header)
    weighting, confidence, why = _weighting(header, said)
    if "LOCALIZER" in header.image_type or LOCALIZER_WORDS.search(said) or header.plane == "several":
        where = "its ImageType" if "LOCALIZER" in header.image_type else "its description"
        where = "images in several planes" if header.plane == "several" and not LOCALIZER_WORDS.search(said) else where
        return Kind(LOCALIZER, CERTAIN if "LOCALIZER" in header.image_type else LIKELY, f"a localizer by {where}")
    derived = _derived(header, said)
    if derived is not None and (weighting, confidence) != (OTHER, CERTAIN):
        of = f" of a {weighting.upper()}" if weighting in (T1, FLAIR, T2) else ""
        what, by, sure = derived
        return Kind(DERIVED, sure, f"{what}{of} by its {by}")
    if weighting != T1:
        return Kind(weighting, confidence, why)
    return _t1(header, said, confidence, why)


def plain_words(text: str) -> str:
    """Lower case without accents, words parted by single spaces, a space at either end; + and * stay."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return f" {' '.join(re.sub(r'[^a-z0-9+*]', ' ', plain).split())} "


def _said(header: SeriesHeader) -> str:
    """The description in plain words; where it says nothing of what was imaged, the protocol's name with it."""
    said = plain_words(header.description)
    # The protocol's name says what was planned, and may be left from another series.
    return said if _tells(said) else plain_words(f"{header.description} {header.protocol}")


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z0-9])(?:{'|'.join(alternatives)})(?![a-z0-9])")


LOCALIZER_WORDS = _words(
    r"(?:\w*)locali[sz]\w*", r"localiz\w*", r"localis\w*", r"loc", r"\w*scout\w*", r"survey", r"3 ?plane\w*",
    r"ubersicht\w*", r"reperage", r"plan ?scan", r"smartbrain", r"topogram\w*",
)  # fmt: skip
T1_WORDS = re.compile(r"(?<![a-z0-9])[a-z]?t1(?![0-9]| ?map| ?rho)")
#: Sequences that are T1-weighted whatever else their name says; "mpr" is one maker's MPRAGE.
T1_SEQUENCES = _words(
    r"\w*mp ?2? ?rage\w*", r"\w*f?spgr\w*", r"bravo\w*", r"\w*vibe\w*", r"tfl ?3d\w*", r"fl3d\w*",
    r"thrive\w*", r"lava\w*", r"\w*flash\w*", r"\w*tfe\w*", r"mpr",
)  # fmt: skip
T2_WORDS = re.compile(r"(?<![a-z0-9])[a-z]?t2(?![0-9])")
FLAIR_WORDS = re.compile(r"flair|dark ?fluid")
OTHER_WORDS: dict[str, re.Pattern[str]] = {
    "diffusion": _words(
        r"\w*dwi\w*", r"e?adc\w*", r"dti\w*", r"dsi", r"\w*diff\w*", r"difus\w*", r"trace\w*", r"tensor", r"fa",
        r"colfa", r"b ?\d{3,4}", r"tractograph\w*",
    ),
    "perfusion": _words(
        r"\w*perf\w*", r"pwi\w*", r"dsc\w*", r"dce\w*", r"p?c?asl\w*", r"r?cbv\w*", r"r?cbf\w*", r"mtt", r"ttp",
        r"tmax", r"k ?trans", r"dyn\w*",
    ),
    "angiography": _words(
        r"\w*tof\w*", r"c?e?mra\w*", r"mrv\w*", r"\w*angio\w*", r"veno\w*", r"phase contrast", r"pca?",
        r"[23]d ?pc", r"flow(?!\w* ?comp)\w*",
    ),
    "spectroscopy": _words(r"mrs\w*", r"spectro\w*", r"svs\w*", r"csi\w*", r"press"),
    "functional imaging": _words(r"f ?mri\w*", r"bold\w*", r"resting\w*", r"rest state"),
    "susceptibility": _words(
        r"\w*swi\w*", r"swan\w*", r"t2 ?\*\w*", r"t2 ?star\w*", r"t2s", r"t2\w* ?ffe", r"hemo\w*", r"qsm",
    ),
    "proton density": _words(r"pd\w{0,3}", r"proton ?dens\w*", r"dp"),
    "STIR": _words(r"stir\w*"),
    "a map": _words(r"t[12] ?map\w*", r"t1 ?rho\w*", r"b[01] ?\w*map\w*", r"field ?map\w*"),
    "calibration": _words(r"calib\w*", r"asset cal\w*", r"ref ?scan", r"shim\w*", r"prescan\w*"),
}  # fmt: skip
DERIVED_WORDS = {
    "a subtraction": _words(r"sub", r"subs?trac\w*", r"subt", r"soustrac\w*", r"subtrak\w*", r"sustrac\w*", r"resta"),
    "a reformat": _words(r"c?mprs?", r"reform\w*", r"recon\w*", r"rekon\w*", r"multiplan\w*"),
    "a projection": _words(r"min?ips?", r"mips?", r"project\w*"),
    "a picture of the screen": _words(r"screen ?s\w*", r"screen ?cap\w*", r"capture\w*"),
}
DERIVED_TYPES = {
    "SUBTRACT": "a subtraction", "SUBTRACTION": "a subtraction", "MPR": "a reformat", "CSA MPR": "a reformat",
    "REFORMATTED": "a reformat", "CPR": "a reformat", "AVERAGE": "an average", "PROJECTION IMAGE": "a projection",
    "MIP": "a projection", "MAX_IP": "a projection", "MIN_IP": "a projection", "MNIP": "a projection",
}  # fmt: skip
DIFFUSION_TYPES = {"ADC", "FA", "TRACEW", "DIFFUSION", "EADC", "TENSOR", "TENSOR_B0"}
ENHANCED_CONTRASTS = {
    "T1": T1, "T2": T2, "FLUID_ATTENUATED": FLAIR, "DIFFUSION": "diffusion", "PERFUSION": "perfusion",
    "STIR": "STIR", "T2_STAR": "susceptibility", "TOF": "angiography", "FLOW_ENCODED": "angiography",
    "PROTON_DENSITY": "proton density",
}  # fmt: skip

_AGENT = (
    r"gad|gado\w*|(?:\w*t1w?|pre|post)gad\w*|\w*gd|\w*kontrast\w*|\w*contrast\w*|\w*km\w?|mdc|ce|t1w?ce|t1c|civ|cte|inj\w*|enhanced|enh|"
    r"dotarem|magnevist|prohance|omniscan|multihance|clariscan|elucirem|vueway"
)
AGENT_WORDS = re.compile(
    rf"(?<![a-z0-9])(?:{_AGENT})(?![a-z0-9])|\+ ?(?:c|km|gd|gad\w*|[ck]ontrast\w*)(?![a-z0-9])| c ?\+ "
)
NOT_AN_AGENT = _words(r"phase contrast", r"high contrast", r"contrast optimi\w*")
_NOT_FAT = r"(?! ?(?:fs|fat\w*|fett\w*|gras\w*|graisse\w*|grasso|sat\w*|sup\w*))"
#: "ohne", "sin gadolinio", "sans injection de gadolinium", "pre gd", "non contrast", "nativ".
WITHOUT_WORDS = _words(
    rf"(?:(?:ohne|sans|sin|senza|without|w ?o){_NOT_FAT}|pre|no|non|vor|avant|antes|before|prior to|s(?= cte))"
    rf"(?: (?:de|d|di|of|i v|iv|medio|mezzo|produit|the)| ?(?:{_AGENT}))+",
    rf"(?:ohne|sans|sin|senza|without|w ?o){_NOT_FAT}", r"pre", r"nati[vf]\w*", r"plain", r"unenhanced", r"nonenh\w*",
    r"(?:pre|non)(?:contrast|gad|gd|ce|km)\w*",
)  # fmt: skip
POST_WORDS = re.compile(r" post | nach | apres | after | despues | tras | dopo |t1\w* ?\+ ")
#: Before and after an operation or a treatment says nothing of contrast.
TREATMENT_WORDS = _words(
    r"(?:pre|post|nach|vor|apres|avant) ?"
    r"(?:op\w*|surg\w*|chir\w*|sat\w*|treat\w*|rt|xrt|rad\w*|chem\w*|bio\w*|scan\w*|resec\w*)"
)

#: Planning scans are mostly taken with contrast, whether their name says so or not.
NAVIGATION_WORDS = _words(
    r"\w*nav[ei]g\w*", r"\w*neuronav\w*", r"stealth\w*", r"brainlab\w*", r"stereota\w*", r"cyberknife\w*",
    r"gamma\w*",
)  # fmt: skip
BOLUS_WORDS = _words(r"dsc\w*", r"dce\w*", r"\w*perf\w*", r"pwi\w*")
LABELLED_WORDS = _words(r"p?c?asl\w*")


def _tells(said: str) -> bool:
    """Whether words say anything of what was imaged."""
    patterns = (T1_WORDS, T1_SEQUENCES, T2_WORDS, FLAIR_WORDS, LOCALIZER_WORDS, *OTHER_WORDS.values())
    return any(pattern.search(said) for pattern in patterns)


def _no_scan(header: SeriesHeader) -> Kind | None:
    """What is no MRI at all."""
    kind = KINDS_BY_CLASS.get(header.sop_class) or KINDS_BY_MODALITY.get(header.modality)
    if kind is not None:
        names = ", ".join(header.parts[:6]) + ("..." if len(header.parts) > 6 else "")
        return Kind(kind, CERTAIN, f"by its kind of object{f': {names}' if names else ''}")
    if header.sop_class in NO_SCAN:
        return Kind(OTHER, CERTAIN, NO_SCAN[header.sop_class])
    if header.modality != "MR":
        return Kind(OTHER, CERTAIN, f"no MRI (Modality {header.modality or 'not said'})")
    return None


def _derived(header: SeriesHeader, said: str) -> tuple[str, str, str] | None:
    """How a series was derived from others, by what, and how sure that is; None where it is as scanned."""
    for value in header.image_type[2:]:
        if value in DERIVED_TYPES:
            return DERIVED_TYPES[value], "ImageType", CERTAIN
    original = header.image_type[:2] == ("ORIGINAL", "PRIMARY")
    for what, words in DERIVED_WORDS.items():
        # "mpr" is a reformat, or one maker's name of the MPRAGE.
        if words.search(said) and not (original and what == "a reformat"):
            return what, "description", CERTAIN
    if header.image_type[:1] == ("DERIVED",):
        return "derived", "ImageType", LIKELY
    return None


def _timing(header: SeriesHeader) -> str | None:
    """The weighting that the times say; None where they leave it open."""
    echo, repetition, inversion = header.echo_time, header.repetition_time, header.inversion_time or 0.0
    if echo is None or repetition is None:
        return None
    gradient = "GR" in header.scanning_sequence.upper() or "GRADIENT" in header.scanning_sequence.upper()
    if inversion >= 1400 and (echo >= 60 or repetition >= 4500):
        return FLAIR
    if 0 < inversion <= 260 and repetition > 1500 and echo > 10:
        return "STIR"
    if echo <= 35:
        if gradient and echo >= 12:
            return "susceptibility"
        if repetition <= 1200 or 300 <= inversion <= 1400 or (gradient and echo < 6):
            return T1 if echo < 12 or repetition > 250 else "susceptibility"
        return "proton density" if repetition >= 1800 and not inversion else None
    if echo >= 60 and repetition >= 1800 and not inversion:
        return T2
    return None


def _weighting(header: SeriesHeader, said: str) -> tuple[str, str, str]:
    """(role, confidence, why); the role is T1 whether with contrast or not."""
    timed = _timing(header)
    times = ", ".join(
        f"{name} {value:.4g}"
        for name, value in (("TE", header.echo_time), ("TR", header.repetition_time), ("TI", header.inversion_time))
        if value
    )
    if DIFFUSION_TYPES & set(header.image_type[2:]):
        return OTHER, CERTAIN, "diffusion by its ImageType"
    for what, words in OTHER_WORDS.items():
        if words.search(said):
            return OTHER, CERTAIN, f"{what} by its description"
    enhanced = ENHANCED_CONTRASTS.get(header.acquisition_contrast)
    named = _named(said, header) or (enhanced if enhanced in (T1, T2, FLAIR) else None)
    by = "its description" if _named(said, header) else "its AcquisitionContrast"
    if enhanced is not None and enhanced not in (T1, T2, FLAIR):
        return OTHER, CERTAIN, f"{enhanced} by its AcquisitionContrast"
    if named == "t1 and flair":
        # An inversion recovery with short echo: what GE calls T1 FLAIR.
        named = T1 if timed in (T1, None) else timed
    if named == "several":
        named = timed if timed in (T1, T2, FLAIR) else None
    if named is None:
        if timed in (T1, T2, FLAIR):
            return timed, LIKELY, f"{timed.upper()} by its times ({times})"
        what = f"{timed} by its times ({times})" if timed else "neither description nor times say what it is"
        return OTHER, LIKELY if timed else UNCLEAR, what
    if timed is None:
        return named, LIKELY, f"{named.upper()} by {by}"
    if timed == named or (named, timed) == (FLAIR, T2):  # where the inversion time is not said
        return named, CERTAIN, f"{named.upper()} by {by} and times ({times})"
    if (named, timed) == (T2, FLAIR):
        return FLAIR, LIKELY, f"T2 by {by}, with the times of a FLAIR ({times})"
    if timed == "proton density" and named in (T1, T2):
        return named, LIKELY, f"{named.upper()} by {by}"
    return named, UNCLEAR, f"{by} says {named.upper()}, its times say {timed.upper()} ({times})"


def _named(said: str, header: SeriesHeader) -> str | None:
    """The weighting that words say."""
    t1, t2, flair = (bool(words.search(said)) for words in (T1_WORDS, T2_WORDS, FLAIR_WORDS))
    if flair:
        return "t1 and flair" if t1 and not t2 else FLAIR
    if t1 and t2:
        return "several"
    if t1 or T1_SEQUENCES.search(said):
        return T1
    if t2:
        return T2
    return T1 if T1_SEQUENCES.search(plain_words(header.sequence_name)) else None


def _t1(header: SeriesHeader, said: str, confidence: str, why: str) -> Kind:
    """A T1, with contrast or without, by its own header."""
    words = " ".join(TREATMENT_WORDS.sub(" ", NOT_AN_AGENT.sub(" ", said)).split())
    without = WITHOUT_WORDS.search(words)
    # "ohne KM" speaks of an agent that was not given.
    rest = f" {' '.join(WITHOUT_WORDS.sub(' ', words).split())} "
    agent, post = AGENT_WORDS.search(rest), POST_WORDS.search(rest)
    if without and (agent or post):
        return Kind(EITHER_T1, UNCLEAR, f"{why}; its description says both with and without contrast")
    if header.contrast:
        if without:
            return Kind(EITHER_T1, UNCLEAR, f"{why}; its description says without contrast, its contrast tags say with")
        return Kind(T1GD, confidence, f"{why}; with contrast by its tags")
    if without:
        return Kind(T1, confidence, f"{why}; without contrast by its description")
    if agent or post:
        if header.contrast is False:
            return Kind(EITHER_T1, UNCLEAR, f"{why}; its description says with contrast, its contrast tags say without")
        sure = confidence if agent else _weaker(confidence, LIKELY)
        return Kind(T1GD, sure, f"{why}; with contrast by its description")
    if header.contrast is False:
        return Kind(T1, confidence, f"{why}; without contrast by its tags")
    return Kind(EITHER_T1, UNCLEAR, f"{why}; nothing in it says whether contrast was given", contrast_open=True)


def _weaker(one: str, other: str) -> str:
    return max(one, other, key=CONFIDENCES.index)


def _in_its_study(
    n: int,
    header: SeriesHeader,
    kind: Kind,
    study: Sequence[int],
    series: Sequence[SeriesHeader],
    kinds: Sequence[Kind],
) -> Kind:
    """A T1 that says nothing of contrast, by the time at which it was taken."""
    if not kind.contrast_open:
        return kind
    why = kind.why.rpartition(";")[0]
    weighted = _weighting(header, _said(header))[1]
    given = [m for m in study if m != n and series[m].taken_at and _shows_contrast(series[m], kinds[m])]
    if header.taken_at and given:
        first = min(given, key=lambda m: series[m].taken_at)
        name = _called(series[first])
        if header.taken_at > series[first].taken_at:
            return Kind(T1GD, _weaker(weighted, LIKELY), f"{why}; taken after {name}, for which contrast was given")
        if header.taken_at < series[first].taken_at:
            # Where the scanner records contrast, its silence before means something.
            sure = _weaker(weighted, CERTAIN if any(series[m].contrast for m in study) else LIKELY)
            return Kind(T1, sure, f"{why}; taken before {name}, the first for which contrast was given")
    twins = [m for m in study if m != n and kinds[m].contrast_open and alike(header, series[m])]
    if len(twins) == 1 and not given and header.taken_at and series[twins[0]].taken_at not in ("", header.taken_at):
        name, sure = _called(series[twins[0]]), _weaker(weighted, LIKELY)
        if header.taken_at > series[twins[0]].taken_at:
            return Kind(T1GD, sure, f"{why}; like {name}, but taken after it")
        return Kind(T1, sure, f"{why}; like {name}, but taken before it")
    if not twins and header.acquisition_type == "2D" and not NAVIGATION_WORDS.search(_said(header)):
        return Kind(T1, _weaker(weighted, LIKELY), f"{why}; nothing says that contrast was given")
    return kind


def _shows_contrast(header: SeriesHeader, kind: Kind) -> bool:
    """Whether contrast had been given when a series was taken."""
    if kind.role in (DERIVED, LOCALIZER) or header.modality != "MR":
        return False
    if header.contrast or (kind.role == T1GD and kind.confidence != UNCLEAR):
        return True
    said = _said(header)
    return kind.role == OTHER and bool(BOLUS_WORDS.search(said)) and not LABELLED_WORDS.search(said)


def alike(one: SeriesHeader, other: SeriesHeader) -> bool:
    """Whether two series were taken in the same way: plane, voxels and times."""

    def near(a: float | None, b: float | None) -> bool:
        if a is None or b is None:
            return (a or 0) == (b or 0)
        return abs(a - b) <= ALIKE * max(abs(a), abs(b))

    return (
        one.plane == other.plane
        and one.acquisition_type == other.acquisition_type
        and len(one.voxel_mm) == len(other.voxel_mm)
        and all(near(a, b) for a, b in zip(one.voxel_mm, other.voxel_mm))
        and all(near(getattr(one, t), getattr(other, t)) for t in ("echo_time", "repetition_time", "inversion_time"))
    )


def _called(header: SeriesHeader) -> str:
    """A series as a sentence names it, without the words of its description."""
    return f"series {header.number}" if header.number is not None else "another series"
