"""What a plan is made of: its choices, their defaults, and the margins that guidelines state."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

from TumorQueryLib.base.errors import InputError, shown

BARRIERS = ("brain", "csf")
SAME_VOLUME, ABOVE = "same", "above="
LARGEST_MARGIN = 60.0  # mm


@dataclass(frozen=True)
class Guideline:
    """A margin that a guideline states.

    Parameters
    ----------
    title : str
    region : {"core", "whole"}
        What is dilated, the resection cavity with it: the tumour core (T1Gd), or the whole tumour (FLAIR).
    margin_mm : float
    margin_without_oedema_mm : float
        Around the core, where the whole tumour is no larger.
    source : str
    """

    title: str
    region: str
    margin_mm: float
    margin_without_oedema_mm: float
    source: str


_ACROP = "Niyazi et al., Radiother Oncol 118:35 (2016)"
GUIDELINES = {
    "estro-eano": Guideline("ESTRO-EANO 2023", "core", 15.0, 15.0, "Niyazi et al., Radiother Oncol 184:109663 (2023)"),
    "eortc": Guideline("EORTC, ESTRO-ACROP 2016", "core", 20.0, 20.0, _ACROP),
    "rtog-1": Guideline("RTOG, first phase", "whole", 20.0, 25.0, f"RTOG's protocols as compared in {_ACROP}"),
    "rtog-2": Guideline("RTOG, boost", "core", 20.0, 20.0, f"RTOG's protocols as compared in {_ACROP}"),
}


@dataclass(frozen=True)
class PlanChoices:
    """The choices of a plan; checked on construction.

    Parameters
    ----------
    margin : float or str
        Of the standard plan around tumour core and cavity, in mm, above 0 and at most 60; or the name of a guideline:
        "estro-eano" (15 mm), "eortc" (20 mm), "rtog-1" (whole tumour and 20 mm), "rtog-2" (20 mm).
    volume : float or str
        Of the model's plan: "same" as the standard's, a number of ml, or "above=U", all that is denser than U.
    barrier : {"brain", "csf"}
        Where plans end: at the brain's surface, or at CSF too.
    smallest_part_ml : float
        Parts of the model's plan below this volume are left out; 0 keeps all.
    share, probability : float
        Where the density's uncertainty is known, the smallest plan is made that holds this share of the cells with
        this probability; both in (0, 1).

    Raises
    ------
    InputError
        When a value is not one of those above.
    """

    margin: float | str = 15.0
    volume: float | str = SAME_VOLUME
    barrier: str = "brain"
    smallest_part_ml: float = 1.0
    share: float = 0.95
    probability: float = 0.9

    def __post_init__(self) -> None:
        named = isinstance(self.margin, str) and self.margin in GUIDELINES
        margin = self.margin if named else _number(self.margin)
        if not named and not (isinstance(margin, float) and 0 < margin <= LARGEST_MARGIN):
            raise InputError(
                f"A margin is a number of mm above 0 and at most {LARGEST_MARGIN:g}, or one of "
                f"{', '.join(GUIDELINES)}, not {shown(self.margin)}."
            )
        object.__setattr__(self, "margin", margin)
        object.__setattr__(self, "volume", _checked_volume(self.volume))
        if self.barrier not in BARRIERS:
            raise InputError(f"There is no barrier {shown(self.barrier)}; choose one of {', '.join(BARRIERS)}.")
        smallest = _number(self.smallest_part_ml)
        if smallest is None or not 0 <= smallest < float("inf"):
            raise InputError(f"smallest_part_ml is a volume in ml from 0, not {shown(self.smallest_part_ml)}.")
        object.__setattr__(self, "smallest_part_ml", smallest)
        for name in ("share", "probability"):
            value = _number(getattr(self, name))
            if value is None or not 0 < value < 1:
                raise InputError(f"{name} is a number between 0 and 1, not {shown(getattr(self, name))}.")
            object.__setattr__(self, name, value)

    @property
    def guideline(self) -> Guideline | None:
        """The guideline that the margin names."""
        return GUIDELINES[self.margin] if isinstance(self.margin, str) else None

    @property
    def above(self) -> float | None:
        """The density that the model's plan lies above; None where its volume was asked for."""
        text = self.volume
        return float(text[len(ABOVE) :]) if isinstance(text, str) and text.startswith(ABOVE) else None

    def as_json(self) -> dict[str, Any]:
        """All choices by name, JSON-ready."""
        return asdict(self)


def _number(value: object) -> float | None:
    """A number, or a text of one, as Python's own; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (Real, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _checked_volume(volume: object) -> float | str:
    if volume == SAME_VOLUME:
        return SAME_VOLUME
    if isinstance(volume, str) and volume.startswith(ABOVE):
        level = _number(volume[len(ABOVE) :])
        if level is not None and 0 < level < 1:
            return f"{ABOVE}{level:g}"
    number = _number(volume)
    if number is None or not 0 < number < float("inf"):
        raise InputError(
            f"The volume of the model's plan is {SAME_VOLUME!r}, a number of ml above 0, or {ABOVE}U with a density U "
            f"between 0 and 1, not {shown(volume)}."
        )
    return number
