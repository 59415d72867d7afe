"""How an inference is done: every choice with its default, in one place.

Python, command line, worker, cohort and the Slicer module take their choices and
defaults from here. This module imports nothing heavy, so that a parser or a panel can.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from TumorQueryLib.base.errors import InputError, shown
from TumorQueryLib.base.plan_choices import PlanChoices

REGISTRATIONS = ("none", "affine", "deformable")
REFINEMENTS = ("none", "atlas", "patient")
FOCI = ("auto", "1", "2")
DENSITIES = ("auto", "match", "refined", "assimilated")
TISSUES = ("atlas", "own")
DEFAULT_SOLVES = 120
DEFAULT_LEVEL = 0.05
#: The least and the largest density whose exceedance is told: the bands' log-odds end at 12.
LEVELS = (0.001, 0.999)


@dataclass(frozen=True)
class Method:
    """The choices of an inference; checked on construction.

    Parameters
    ----------
    database : str or path
        Name of a bundled database, or the path of a file.
    atlas : str or path, optional
        Name of a bundled atlas or the path of an atlas folder; by default the bundled one that the database names.
    strategy : str
        Name of a query strategy; "direct" is exact.
    strategy_options : dict
        Options of that strategy by name: text, a path, true or false, or a number.
    registration : {"deformable", "affine", "none"}
        How the patient is mapped to the atlas; "none" where the images are in the atlas space already.
    top : int
        Number of matches to rank, at least 1.
    refine : {"patient", "atlas", "none"}
        Fit better than any entry, in the patient's own anatomy or in the atlas; "none" is the paper's answer.
    refine_solves : int
        Budget of the refinement; with a budget in solves alone the result is deterministic.
    refine_seconds : float, optional
        Seconds after which the refinement ends with the best so far; sensitivity's searches together have as many.
    foci : {"auto", "1", "2"}
        Or the number 1 or 2. Whether two tumours are tried: "auto" where the core has two components of at least 1 ml.
    density : {"auto", "match", "refined", "assimilated"}
        Which estimate is shown and written as the density: "assimilated" agrees with the segmentation's outlines,
        "refined" is the growth model's own (the match, where that agrees better), "match" the database's; "auto" is
        the assimilated one after a refinement, and the match without.
    uncertainty : bool
        Find how sure the assimilated density is: standard deviation, 5 and 95 % bounds, intervals of the parameters.
    level : float
        Density, from .001 to .999, whose exceedance the uncertainty gives.
    tissue : {"atlas", "own"}
        Whose white matter, grey matter and CSF a refinement in the patient's anatomy grows in: the atlas's, carried to
        the patient, or the patient's own outside the tumour, as the T1 shows it. Tissue maps that are given with the
        patient go before either.
    sensitivity : bool
        Refine again under other assumptions about the tissue, and give their figures side by side; it fits nothing.
    plan : bool
        Make the standard plan and the model's of the density (see `results.plan`).
    margin, volume : float or str
    barrier : str
        Choices of that plan: see `PlanChoices`.
    align : bool
        Move T1 and FLAIR, and what was drawn on them, onto the T1Gd where the patient moved between them.

    Raises
    ------
    InputError
        When a value is not one of those above.
    """

    database: str = "starter"
    atlas: str | None = None
    strategy: str = "direct"
    strategy_options: Mapping[str, Any] = field(default_factory=dict)
    registration: str = "deformable"
    top: int = 15
    refine: str = "patient"
    refine_solves: int = DEFAULT_SOLVES
    refine_seconds: float | None = None
    foci: str = "auto"
    density: str = "auto"
    uncertainty: bool = False
    level: float = DEFAULT_LEVEL
    tissue: str = "atlas"
    sensitivity: bool = False
    plan: bool = False
    margin: float | str = PlanChoices.margin
    volume: float | str = PlanChoices.volume
    barrier: str = PlanChoices.barrier
    align: bool = True

    def __post_init__(self) -> None:
        for name in ("database", "atlas"):
            value = getattr(self, name)
            if isinstance(value, os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
            elif not isinstance(value, str) and not (name == "atlas" and value is None):
                raise InputError(f"{name} is a name or a path, not {value!r}.")
        if not isinstance(self.strategy, str):
            raise InputError(f"strategy is the name of a query strategy, not {self.strategy!r}.")
        if _is_number(self.foci, Integral):
            object.__setattr__(self, "foci", str(self.foci))
        for name, accepted in (
            ("registration", REGISTRATIONS),
            ("refine", REFINEMENTS),
            ("foci", FOCI),
            ("density", DENSITIES),
            ("tissue", TISSUES),
        ):
            value = getattr(self, name)
            if value not in accepted:
                raise InputError(f"There is no {name} {value!r}; choose one of {', '.join(accepted)}.")
        for name in ("align", "uncertainty", "sensitivity", "plan"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is true or false, not {getattr(self, name)!r}.")
        if self.density == "refined" and self.refine == "none":
            raise InputError("There is no refined density without a refinement; choose refine patient or atlas.")
        if not _is_number(self.level, Real) or not LEVELS[0] <= self.level <= LEVELS[1]:
            raise InputError(f"level is a density from {LEVELS[0]:g} to {LEVELS[1]:g}, not {self.level!r}.")
        object.__setattr__(self, "level", _plain(self.level))
        if self.sensitivity and self.refine == "none":
            raise InputError("Sensitivity refines again, and refine is none; choose refine patient or atlas.")
        if self.tissue == "own" and self.refine != "patient":
            raise InputError(
                f"The patient's own tissue is for a refinement in the patient's anatomy, and refine is {self.refine}; "
                "choose refine patient, or tissue atlas."
            )
        planned = self.plan_choices
        for name in ("margin", "volume"):
            object.__setattr__(self, name, getattr(planned, name))
        if not self.plan and planned != PlanChoices():
            raise InputError("margin, volume and barrier are of a plan, and none is asked for; ask for it, too.")
        for name in ("top", "refine_solves"):
            value = getattr(self, name)
            if not _is_number(value, Integral) or value < 1:
                raise InputError(f"{name} is a whole number from 1, not {value!r}.")
            object.__setattr__(self, name, int(value))
        seconds = self.refine_seconds
        if seconds is not None:
            if not _is_number(seconds, Real) or not 0 < seconds < float("inf"):
                raise InputError(f"refine_seconds is a number of seconds above 0, not {seconds!r}.")
            object.__setattr__(self, "refine_seconds", _plain(seconds))
        if not isinstance(self.strategy_options, Mapping):
            raise InputError(f"strategy_options are values by name, not {self.strategy_options!r}.")
        options = {_option_name(name): _option_value(name, value) for name, value in self.strategy_options.items()}
        object.__setattr__(self, "strategy_options", options)

    @property
    def plan_choices(self) -> PlanChoices:
        """The choices of the plan."""
        return PlanChoices(margin=self.margin, volume=self.volume, barrier=self.barrier)

    @property
    def shown_density(self) -> str:
        """`density`, with "auto" decided: "assimilated" or "match"."""
        if self.density != "auto":
            return self.density
        return "match" if self.refine == "none" else "assimilated"

    @classmethod
    def from_json(cls, choices: Mapping[str, Any]) -> Method:
        """A method from the choices of a job file; what is absent keeps its default.

        Raises
        ------
        InputError
            Naming the choices that there are, when one is unknown.
        """
        known = [one.name for one in fields(cls)]
        unknown = sorted(set(choices) - set(known))
        if unknown:
            raise InputError(f"There is no choice {', '.join(unknown)} of a method; there are {', '.join(known)}.")
        return cls(**choices)

    def as_json(self) -> dict[str, Any]:
        """All choices by name, JSON-ready."""
        return asdict(self)


def _is_number(value: object, kind: type[Integral] | type[Real]) -> bool:
    """Whether a value is a number of that kind, NumPy's too; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _plain(value: Any) -> int | float:
    """A number as Python's own, which JSON can hold."""
    return int(value) if isinstance(value, Integral) else float(value)


def _option_name(name: object) -> str:
    if not isinstance(name, str):
        raise InputError(f"The options of a strategy have texts for names, not {shown(name)}.")
    return name


def _option_value(name: str, value: object) -> bool | int | float | str:
    """The value of a strategy's option as JSON can hold it."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bool | str):
        return value
    if _is_number(value, Real):
        return _plain(value)
    raise InputError(
        f"The option {name} of the strategy is a text, a path, true or false, or a number, not {shown(value)}."
    )
