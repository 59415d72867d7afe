"""Refinement: fit one patient better than any entry of the database does.

A query costs milliseconds and a solve a tenth of a second, so a match is a start.
Downhill simplexes (`search.py`) move the seed and the infiltration length
sqrt(D/rho); every solve is scored at all its moments (`moments.py`).
The tumour grows in the atlas, or in the patient's own anatomy (`anatomy.carried`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.method import DEFAULT_SOLVES, FOCI
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.estimates.fit import Fit
from TumorQueryLib.estimates.foci import SMALLEST_FOCUS_ML, centre_starts, combined_density, halves, search_two_foci
from TumorQueryLib.estimates.moments import best_exact_moment
from TumorQueryLib.estimates.search import Search, Solve, Start, as_point
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.growth import GrowthParameters, simulate

STARTS = 5  # matches from different trajectories that are solved before the search
START_KINDS = ("all", "matches", "centre")


@dataclass(frozen=True, eq=False)
class Refinement:
    """The tumour that fits best, and the search that found it.

    Parameters
    ----------
    parameters : tuple of GrowthParameters
        One tumour for each focus, in the anatomy it was searched in; proliferation is the match's, because an image
        does not tell it.
    density : Volume
        Tumour cell density on that anatomy's grid, float32 in [0, 1].
    match_dice_sum : float
        Of the best match on the same grid, in [0, 2].
    path : tuple of Solve
        Every solve in its order.
    stopped : {"converged", "budget", "time"}
        Why the search of what was found ended: of one tumour, or of the two.
    two_foci : {"taken", "lost", "not tried", "out of time", "impossible"}
        Whether two tumours were grown and kept, or fitted no better than one (or that only as far as there was time);
        impossible where the core is of one part.
    """

    parameters: tuple[GrowthParameters, ...]
    density: Volume
    match_dice_sum: float
    path: tuple[Solve, ...]
    stopped: str
    two_foci: str = "not tried"


def refine(
    match: Estimate,
    ranked: Sequence[GrowthParameters],
    anatomy: Anatomy,
    target: TumorMasks,
    thresholds: tuple[float, float],
    *,
    solves: int = DEFAULT_SOLVES,
    seconds: float | None = None,
    foci: str = "auto",
    starts: str = "all",
    random_seed: int = 0,
    progress: Progress = no_progress,
) -> Refinement:
    """Optimise seed, infiltration length and age from the best matches.

    Parameters
    ----------
    match : Estimate
        The best match.
    ranked : sequence of GrowthParameters
        Of the matches, best first, in the match's anatomy; the search starts from them.
    anatomy : Anatomy
        Where the tumour grows: the match's own, or the patient's.
    target : TumorMasks
        The patient's regions on that anatomy's grid.
    thresholds : tuple of float
        Densities above which a voxel belongs to core and whole tumour.
    solves : int
        Budget, as large again for two foci; the result is the same for the same budget and random seed.
    seconds : float, optional
        Wall seconds after which the search ends with the best so far.
    foci : {"auto", "1", "2"}
        With "2", a tumour whose core has several components is also fitted by two tumours, and the better answer is
        returned; "auto" does so where two components of the core have at least 1 ml.
    starts : {"all", "matches", "centre"}
        From what the search of one tumour starts: the matches, the centre of the core, or both.
    random_seed : int
    progress : Progress
        Raises `Cancelled` to stop.

    Returns
    -------
    Refinement
        Not necessarily better than the match; compare their fits.

    Raises
    ------
    InputError
        When there is no match, the whole tumour is empty, or an option is not one of those above.
    """
    _check_call(ranked, anatomy, target, solves, foci, starts)
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    sides = None if foci == "1" else halves(target, SMALLEST_FOCUS_ML if foci == "auto" else 0.0)
    # The halves of two foci together cost what the whole does.
    share = 1.0 if sides is None else 0.5
    search = Search(anatomy.tissue, target, thresholds, deadline, random_seed, progress=part(progress, 0.0, share))
    first = [] if starts == "centre" else _starts_from(ranked, match.anatomy, anatomy)
    first += [] if starts == "matches" else centre_starts(target)
    parameters = [_best_of(search, first, solves, ranked[0].proliferation)]
    density = simulate(parameters[0], anatomy.tissue)
    stopped = search.stopped
    two_foci = "not tried" if halves(target, 0.0) is not None else "impossible"
    if sides is not None and stopped == "time":
        two_foci = "out of time"
    elif sides is not None:
        two, end = search_two_foci(search, sides, solves, ranked[0].proliferation, progress=part(progress, share, 1.0))
        two_foci = "out of time" if end == "time" else "lost"
        if len(two) == 2:
            together = combined_density([simulate(p, anatomy.tissue) for p in two])
            fits = (Fit.of(Volume(d, anatomy.grid), target, thresholds) for d in (density, together))
            if next(fits).dice_sum < next(fits).dice_sum:
                parameters, density, two_foci, stopped = two, together, "taken", end
    return Refinement(
        parameters=tuple(parameters),
        density=Volume(density, anatomy.grid),
        match_dice_sum=_dice_sum_in(match, anatomy, target, thresholds),
        path=tuple(search.path),
        stopped=stopped,
        two_foci=two_foci,
    )


def _check_call(
    ranked: Sequence[GrowthParameters], anatomy: Anatomy, target: TumorMasks, solves: int, foci: str, starts: str
) -> None:
    if not ranked:
        raise InputError("There is no match from which to refine; query the database first.")
    if foci not in FOCI:
        raise InputError(f"A tumour is refined with 1 or 2 foci, or auto; not {foci!r}.")
    if starts not in START_KINDS:
        raise InputError(f"A search starts from one of {', '.join(START_KINDS)}; not {starts!r}.")
    if solves < 1:
        raise InputError(f"A refinement needs a budget of at least one solve, not {solves}.")
    if not target.whole.any():
        raise InputError(
            f"The whole tumour is empty on the grid of the {anatomy.name}, so there is nothing to refine; "
            "check the registration."
        )


def _best_of(search: Search, starts: list[Start], solves: int, proliferation: float) -> GrowthParameters:
    """Parameters of the best solve of a search, at its best exactly solved moment."""
    best = search.run(starts, solves)
    rho_t = best_exact_moment(
        best.seed, best.infiltration_length, best.rho_t, search.tissue, search.target, search.thresholds
    )
    return GrowthParameters.from_identifiable(best.seed, best.infiltration_length, rho_t, proliferation)


def _starts_from(ranked: Sequence[GrowthParameters], source: Anatomy, place: Anatomy) -> list[Start]:
    """Seed and infiltration length of the best tumours of different trajectories, best first, in another anatomy."""
    trajectories = list(dict.fromkeys((p.seed, p.infiltration_length) for p in ranked))[:STARTS]
    if source is place:
        return trajectories
    return [(as_point(source.point_in_patient(seed)), length * source.length_scale) for seed, length in trajectories]


def _dice_sum_in(match: Estimate, anatomy: Anatomy, target: TumorMasks, thresholds: tuple[float, float]) -> float:
    """The match's Dice sum on the grid of an anatomy."""
    if match.anatomy is anatomy:
        return match.fit_in_anatomy.dice_sum
    return Fit.of(match.anatomy.in_patient(match.density, anatomy.grid), target, thresholds).dice_sum
