"""Refinement: fit one patient better than any entry of the database does.

A query costs milliseconds and a solve a tenth of a second, so a match is a start.
Downhill simplexes (Nelder and Mead 1965, doi 10.1093/comjnl/7.4.308) move the seed and
the infiltration length sqrt(D/rho); every solve is scored at all its moments, so the
age rho T costs nothing.
The tumour grows in the atlas, or in the patient's own anatomy: the atlas's tissue
maps carried over by the registration.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import Cancelled, InputError
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.geometry.grid import Grid, Volume, resample_mask
from TumorQueryLib.geometry.regions import TumorMasks, dice, dice_from_counts
from TumorQueryLib.growth import GrowthParameters, grow_trajectory
from TumorQueryLib.strategies.base import Match

if TYPE_CHECKING:
    from TumorQueryLib.database import TumorDatabase
    from TumorQueryLib.inputs.patient import Patient
    from TumorQueryLib.registration import Registration

#: Seed (RAS mm) and infiltration length (mm).
Start = tuple[tuple[float, float, float], float]

FRAMES = ("atlas", "patient")
DEFAULT_SOLVES = 120

CHAINS = 2  # simplexes, each from another start and in its own thread
STARTS = 5  # matches from different trajectories that are solved before the search
CENTRE_LENGTHS = (1.0, 2.0, 4.0)  # mm; solved at the core's centre too, where a large tumour's match may be far off
SEED_STEP = 3.0  # mm; edge of the first simplex
LENGTH_STEP = 0.3  # of log(infiltration length)
SHORTEST_LENGTH, LONGEST_LENGTH = 0.5, 12.0  # mm
CONVERGED = 0.02  # share of the first simplex's edges
CONVERGED_SCORE = 5e-4  # of the Dice sum within the simplex
STOP_VOLUME = 1.6  # a solve ends when the whole tumour is so many times as large as the observed one
MOMENTS_PER_STEP = 8  # between two step ends cells pass a threshold at a time interpolated in log-odds
SPACING = 1.5  # mm; of the grid in the patient's space, as the atlas's
PADDING = 6.0  # mm of that grid around the tissue
REPORT_EVERY = 0.2  # s, between two calls of progress while a solve runs
NEIGHBOURHOOD = 3.0  # mm; sigma in which the neighbours say whether a tumour voxel is grey matter


@dataclass(frozen=True)
class Solve:
    """One solve of the search.

    Parameters
    ----------
    number : int
        From 0.
    score : float
        Dice sum at its best moment, in [0, 2].
    seed : tuple of float
        RAS mm in the refinement's frame.
    infiltration_length : float
        mm.
    rho_t : float
        Of its best moment.
    """

    number: int
    score: float
    seed: tuple[float, float, float]
    infiltration_length: float
    rho_t: float


@dataclass(frozen=True, eq=False)
class Refinement:
    """The tumour that fits best.

    Parameters
    ----------
    parameters : tuple of GrowthParameters
        One tumour for each focus, in `frame`; proliferation is the match's, because an image does not tell it.
    frame : {"atlas", "patient"}
        Where seed and lengths are: the atlas, or the patient's own space in RAS mm. It is "atlas" after a
        refinement in the patient's anatomy that found nothing better than the match.
    density : Volume
        Tumour cell density, float32 in [0, 1], on the atlas grid or on a grid of 1.5 mm around the patient's brain.
    dice_core, dice_whole : float
        Against the query's masks on the density's grid.
    match_dice_sum : float
        The best match's, on the same grid; `dice_sum` is never below it.
    path : tuple of Solve
        Every solve in its order.
    stopped : {"converged", "budget", "time", "cancelled"}
    tissue_voxels_added : int
        Voxels of the tumour that the carried tissue maps call CSF or background, made tissue; 0 in the atlas.
    """

    parameters: tuple[GrowthParameters, ...]
    frame: str
    density: Volume
    dice_core: float
    dice_whole: float
    match_dice_sum: float
    path: tuple[Solve, ...]
    stopped: str
    tissue_voxels_added: int

    @property
    def dice_sum(self) -> float:
        """Dice of core and whole tumour, summed, in [0, 2]."""
        return self.dice_core + self.dice_whole

    def write_path(self, folder: Path) -> None:
        """Write the search as refinement.csv and refinement.png into an existing folder."""
        from matplotlib.figure import Figure

        with open(Path(folder) / "refinement.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["solve", "dice_sum", "x_mm", "y_mm", "z_mm", "infiltration_length_mm", "rho_t"])
            for solve in self.path:
                numbers = (solve.score, *solve.seed, solve.infiltration_length, solve.rho_t)
                table.writerow([solve.number, *(f"{value:.4f}" for value in numbers)])
        scores = [solve.score for solve in self.path]
        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.subplots()
        axes.plot(scores, ".", color="0.6", label="solve")
        axes.step(range(len(scores)), np.maximum.accumulate(scores), where="post", color="C0", label="best so far")
        axes.axhline(self.match_dice_sum, color="C1", linestyle="--", label="best match")
        axes.set(xlabel="solve", ylabel="Dice core + Dice whole", title=f"Refinement in the {self.frame}")
        axes.legend(loc="lower right", fontsize="small")
        figure.savefig(Path(folder) / "refinement.png", dpi=120)


def refine(
    matches: Sequence[Match],
    database: TumorDatabase,
    atlas: Atlas,
    masks: TumorMasks,
    *,
    frame: str = "atlas",
    patient: Patient | None = None,
    registration: Registration | None = None,
    anatomy: tuple[Atlas, Registration] | None = None,
    budget_solves: int = DEFAULT_SOLVES,
    budget_seconds: float | None = None,
    random_seed: int = 0,
    foci: int = 1,
    progress: Progress = no_progress,
) -> Refinement:
    """Optimise seed, infiltration length and age from the best matches.

    Parameters
    ----------
    matches : sequence of Match
        Best first; at least one.
    database : TumorDatabase
        Of the matches; its thresholds are used.
    atlas : Atlas
        The database's.
    masks : TumorMasks
        The query: the patient's masks on the atlas grid.
    frame : {"atlas", "patient"}
        Where the tumour grows. "patient" needs `patient` and `registration`.
    patient : Patient, optional
    registration : Registration, optional
    anatomy : tuple of Atlas and Registration, optional
        With "patient": whose tissue maps are carried over instead of the database's atlas, and how; for a patient
        whose own anatomy is known.
    budget_solves : int
        Solves in all; the result is the same for the same budget and seed.
    budget_seconds : float, optional
        Wall seconds after which the search ends with the best so far.
    random_seed : int
        Of the random numbers.
    foci : {1, 2}
        With 2, a tumour whose core has several components is also fitted by two tumours, each with a seed,
        infiltration length and age of its own; the better answer is returned.
    progress : Progress
        When it raises `Cancelled`, the best so far is returned and `stopped` says so.

    Returns
    -------
    Refinement

    Raises
    ------
    InputError
        When there is no match, the whole tumour is empty, or an option is not one of those above.
    """
    if not matches:
        raise InputError("There is no match from which to refine; query the database first.")
    if frame not in FRAMES:
        raise InputError(f"There is no frame {frame!r} to refine in; choose atlas or patient.")
    if frame == "patient" and (patient is None or registration is None):
        raise InputError("A refinement in the patient's anatomy needs the patient and the registration.")
    if foci not in (1, 2):
        raise InputError(f"A tumour is refined with 1 or 2 foci, not {foci}.")
    if budget_solves < 1:
        raise InputError(f"A refinement needs a budget of at least one solve, not {budget_solves}.")
    if not masks.whole.any():
        raise InputError(
            "The whole tumour is empty in the atlas, so there is nothing to refine; check the registration."
        )

    started = time.monotonic()
    deadline = math.inf if budget_seconds is None else started + budget_seconds
    thresholds = (database.threshold_core, database.threshold_whole)
    starts = _different_trajectories(matches, database)
    best_match = database.parameters(matches[0].entry)
    match_density = _density(best_match, Tissue.from_atlas(atlas))
    if frame == "atlas":
        tissue, target, added = Tissue.from_atlas(atlas), masks, 0
        match_here = match_density
    else:
        assert patient is not None
        assert registration is not None
        tissue, target, added = tissue_in_patient(*(anatomy or (atlas, registration)), patient)
        scale = registration.length_scale(patient.whole)
        starts = [(_triple(registration.seed_in_patient(p)), length * scale) for p, length in starts]
        match_here = registration.density_in_patient(match_density, atlas.grid, tissue.grid).array
    match_dice = _dice(match_here, target, thresholds)

    starts += _centre_starts(target)
    search = _Search(tissue, target, thresholds, deadline, random_seed, progress)
    budget = budget_solves if foci == 1 else budget_solves // 2
    found = search.run(starts, budget)
    parameters = [_exact(found, tissue, target, thresholds, best_match.proliferation)]
    density = _density(parameters[0], tissue)
    result_dice = _dice(density, target, thresholds)

    if foci == 2 and search.stopped in ("converged", "budget"):
        two = _two_foci(search, budget_solves - budget, best_match.proliferation)
        if two is not None:
            together = _combined_density([_density(p, tissue) for p in two])
            two_dice = _dice(together, target, thresholds)
            if sum(two_dice) > sum(result_dice):
                parameters, density, result_dice = two, together, two_dice

    if sum(match_dice) >= sum(result_dice):
        parameters, density, result_dice, added = [best_match], match_density, match_dice, 0
        frame, tissue = "atlas", Tissue.from_atlas(atlas)
    return Refinement(
        parameters=tuple(parameters),
        frame=frame,
        density=Volume(density, tissue.grid),
        dice_core=result_dice[0],
        dice_whole=result_dice[1],
        match_dice_sum=sum(match_dice),
        path=tuple(search.path),
        stopped=search.stopped,
        tissue_voxels_added=added,
    )


def tissue_in_patient(atlas: Atlas, registration: Registration, patient: Patient) -> tuple[Tissue, TumorMasks, int]:
    """The atlas's anatomy in the patient's space, where the patient's tumour is tissue.

    Parameters
    ----------
    atlas : Atlas
    registration : Registration
    patient : Patient

    Returns
    -------
    tissue : Tissue
        On a grid of 1.5 mm along RAS around the patient's brain. A voxel of the tumour that the carried maps call
        CSF or background is white matter, or grey matter where its tissue neighbours mostly are.
    masks : TumorMasks
        The patient's segmentation on that grid.
    added : int
        Number of such voxels.
    """
    grid = _grid_around_brain(atlas, registration)
    white, grey, csf = (
        registration.density_in_patient(tissue_map, atlas.grid, grid).array
        for tissue_map in (atlas.white_matter, atlas.grey_matter, atlas.csf)
    )
    core = resample_mask(patient.core, grid).array
    whole = resample_mask(patient.whole, grid).array | core
    missing = whole & (white + grey < 0.5)
    known = ~missing & (white + grey >= 0.5)
    sigma = NEIGHBOURHOOD / SPACING
    near_white, near_grey = (ndimage.gaussian_filter(np.where(known, m, 0), sigma) for m in (white, grey))
    is_grey = missing & (near_grey > near_white)
    white = np.where(missing, np.where(is_grey, 0, 1), white).astype(np.float32)
    grey = np.where(missing, np.where(is_grey, 1, 0), grey).astype(np.float32)
    csf = np.where(missing, 0, csf).astype(np.float32)
    return Tissue.from_maps(white, grey, csf, grid), TumorMasks(core, whole, grid), int(missing.sum())


def _grid_around_brain(atlas: Atlas, registration: Registration) -> Grid:
    """A grid of 1.5 mm along RAS around the atlas's tissue in the patient's space."""
    from TumorQueryLib.geometry.transforms import map_points

    cells = np.argwhere(atlas.white_matter + atlas.grey_matter >= 0.5)[::50]
    points = map_points(registration.atlas_to_patient, atlas.grid.to_ras(cells))
    low, high = points.min(axis=0) - PADDING, points.max(axis=0) + PADDING
    i, j, k = (int(n) for n in np.ceil((high - low) / SPACING) + 1)
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = low
    return Grid((i, j, k), affine)


def _different_trajectories(matches: Sequence[Match], database: TumorDatabase) -> list[Start]:
    """Seed and infiltration length of the best match of each trajectory, best first."""
    starts: list[Start] = []
    seen = set()
    for match in matches:
        trajectory = int(database.trajectory[match.entry])
        if trajectory not in seen and len(starts) < STARTS:
            seen.add(trajectory)
            parameters = database.parameters(match.entry)
            starts.append((parameters.seed, parameters.infiltration_length))
    return starts


def _triple(point: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])


def _centre_starts(target: TumorMasks) -> list[Start]:
    """Starts at the centre of the core (of the whole tumour, where there is no core)."""
    region = target.core if target.core.any() else target.whole
    centre = _triple(target.grid.to_ras(np.argwhere(region).mean(axis=0)))
    return [(centre, length) for length in CENTRE_LENGTHS]


class _HaltedError(Exception):
    """The search ends before its solve is done."""


class _Search:
    """Downhill simplexes over seed and log infiltration length in one anatomy, and every solve they made."""

    def __init__(
        self,
        tissue: Tissue,
        target: TumorMasks,
        thresholds: tuple[float, float],
        deadline: float,
        random_seed: int,
        progress: Progress,
    ) -> None:
        self.tissue = tissue
        self.target = target
        self.thresholds = thresholds
        self.deadline = deadline
        self.random_seed = random_seed
        self.progress = progress
        self.path: list[Solve] = []
        self.stopped = "budget"
        # A seed that leaves the tissue is moved to the nearest cell of it.
        self._nearest = ndimage.distance_transform_edt(
            ~tissue.mask, sampling=tissue.grid.spacing, return_distances=False, return_indices=True
        )

    def run(self, starts: Sequence[Start], solves: int) -> Solve:
        """The best solve within a budget; `stopped` says why the search ended."""
        halt = Event()
        first = [_Chain(self, halt, 1) for _ in starts[:solves]]
        self._together(first, [partial(chain.evaluate, *start) for chain, start in zip(first, starts)], halt, solves)
        # Sorting is stable: equal scores keep the order of the matches.
        ranked = sorted(range(len(self.path)), key=lambda n: -self.path[n].score)
        if self.stopped == "budget" and len(self.path) < solves:
            origins = _apart([self.path[n] for n in ranked])
            share, rest = divmod(solves - len(self.path), len(origins))
            chains = [_Chain(self, halt, share + (n < rest)) for n in range(len(origins))]
            converged = self._together(
                chains,
                [partial(chain.descend, origin, n) for n, (chain, origin) in enumerate(zip(chains, origins))],
                halt,
                solves,
            )
            if self.stopped == "budget" and converged and all(converged):
                self.stopped = "converged"
        if not self.path:
            raise Cancelled("The refinement was cancelled before its first solve.")
        return max(self.path, key=lambda solve: solve.score)

    def _together(self, chains: list[_Chain], tasks: list[Callable[[], bool]], halt: Event, solves: int) -> list[bool]:
        """Run the chains' tasks on all cores while reporting; add their solves to the path in a fixed order."""
        before = len(self.path)
        with ThreadPoolExecutor(_cores()) as pool:
            waiting = [pool.submit(task) for task in tasks]
            try:
                while wait(waiting, timeout=REPORT_EVERY).not_done:
                    made = [solve for chain in chains for solve in chain.solves]
                    best = max((solve.score for solve in [*self.path, *made]), default=0.0)
                    self.progress(min(1.0, (before + len(made)) / solves), f"Refining, Dice sum {best:.3f}")
                    if time.monotonic() > self.deadline and (self.path or made):
                        self.stopped = "time"
                        break
            except Cancelled:
                self.stopped = "cancelled"
            finally:
                if self.stopped != "budget":
                    halt.set()
                    for future in waiting:
                        future.cancel()
        for turn in zip_longest(*(chain.solves for chain in chains)):
            for solve in turn:
                if solve is not None:
                    self.path.append(replace(solve, number=len(self.path)))
        return [future.result() for future in waiting if not future.cancelled()]

    def solve(
        self, seed: NDArray[np.float64], length: float, halt: Event
    ) -> tuple[float, float, tuple[float, float, float], float]:
        """Dice sum at the best moment of a trajectory, its rho T, and where it really started."""
        length = min(max(length, SHORTEST_LENGTH), LONGEST_LENGTH)
        placed = self._in_tissue(seed)
        try:
            score, rho_t = best_moment(placed, length, self.tissue, self.target, self.thresholds, halt)
        except InputError:
            # Tissue too small to start a tumour in.
            score, rho_t = 0.0, 0.0
        return score, rho_t, placed, length

    def _in_tissue(self, seed: NDArray[np.float64]) -> tuple[float, float, float]:
        cell = np.rint(self.tissue.grid.to_index(seed)).astype(int)
        cell = np.clip(cell, 0, np.array(self.tissue.grid.shape) - 1)
        i, j, k = cell
        nearest = self._nearest[:, i, j, k]
        inside = np.array_equal(nearest, cell) and self.tissue.mask[i, j, k]
        place = np.asarray(seed) if inside else self.tissue.grid.to_ras(nearest)
        return _triple(place)


class _Chain:
    """A row of solves that follow each other in one thread, at most `budget` of them."""

    def __init__(self, search: _Search, halt: Event, budget: int) -> None:
        self.search = search
        self.halt = halt
        self.budget = budget
        self.solves: list[Solve] = []

    def evaluate(self, seed: Sequence[float], length: float) -> bool:
        """One solve; whether there is budget left."""
        try:
            self._score(np.asarray(seed, dtype=float), length)
        except _HaltedError:
            return False
        return len(self.solves) < self.budget

    def descend(self, origin: Solve, number: int) -> bool:
        """Nelder and Mead's simplex from a solve until it converges, which is said, or the budget is spent."""
        from scipy.optimize import minimize

        centre = np.array([*origin.seed, math.log(origin.infiltration_length)])
        scale = np.array([SEED_STEP, SEED_STEP, SEED_STEP, LENGTH_STEP])
        # The first simplex is turned at random, so that its edges favour no direction of the head.
        turn, _ = np.linalg.qr(np.random.default_rng([self.search.random_seed, number]).standard_normal((4, 4)))

        def loss(x: NDArray[np.float64]) -> float:
            if len(self.solves) >= self.budget:
                raise _HaltedError
            point = centre + scale * x
            return -self._score(point[:3], math.exp(point[3]))

        try:
            minimize(
                loss,
                np.zeros(4),
                method="Nelder-Mead",
                options={
                    "initial_simplex": np.vstack([np.zeros(4), turn]),
                    "xatol": CONVERGED,
                    "fatol": CONVERGED_SCORE,
                    "maxfev": self.budget,
                },
            )
        except _HaltedError:
            return False
        return len(self.solves) < self.budget

    def _score(self, seed: NDArray[np.float64], length: float) -> float:
        if self.halt.is_set():
            raise _HaltedError
        score, rho_t, placed, length = self.search.solve(seed, length, self.halt)
        if self.halt.is_set():
            raise _HaltedError
        self.solves.append(Solve(len(self.solves), score, placed, length, rho_t))
        return score


def _apart(ranked: list[Solve]) -> list[Solve]:
    """The best solve and the best ones that start elsewhere, as many as there are chains."""
    elsewhere = [solve for solve in ranked[1:] if math.dist(solve.seed, ranked[0].seed) >= SEED_STEP]
    return [ranked[0], *elsewhere[: CHAINS - 1]]


def best_moment(
    seed: tuple[float, float, float],
    infiltration_length: float,
    tissue: Tissue,
    target: TumorMasks,
    thresholds: tuple[float, float],
    halt: Event | None = None,
) -> tuple[float, float]:
    """Highest Dice sum over all moments of a trajectory, and its rho T.

    Between two step ends each cell passes a threshold where its log-odds, interpolated linearly, do: a front moves
    at a constant speed with u / (1 - u) nearly exponential ahead of it.

    Parameters
    ----------
    seed : tuple of float
        RAS mm, in tissue.
    infiltration_length : float
        mm.
    tissue : Tissue
    target : TumorMasks
        On the tissue's grid.
    thresholds : tuple of float
        Of core and whole tumour.
    halt : threading.Event, optional
        Once set, the trajectory ends where it is.
    """
    observed_core = int(np.count_nonzero(target.core))
    observed_whole = int(np.count_nonzero(target.whole))
    moments = grow_trajectory(
        seed,
        infiltration_length,
        tissue,
        every_step=True,
        threshold=thresholds[1],
        stop_volume_ml=STOP_VOLUME * observed_whole * tissue.grid.voxel_volume_ml,
    )
    before = np.zeros(tissue.grid.shape, np.float32)
    limits = np.array(thresholds, np.float32)
    changes: list[NDArray[np.int64]] = []
    times: list[float] = []
    for moment in moments:
        if halt is not None and halt.is_set():
            break
        counts = np.zeros((MOMENTS_PER_STEP, 2, 2), np.int64)
        i, j, k = moment.start
        _count_crossings(moment.density, before, target.core, target.whole, limits, i, j, k, counts)
        previous = times[-1] if times else moment.rho_t
        step = moment.rho_t - previous
        times += [previous + step * (n + 1) / MOMENTS_PER_STEP for n in range(MOMENTS_PER_STEP)]
        changes.append(counts)
    if not changes:
        return 0.0, 0.0
    totals = np.concatenate(changes).cumsum(axis=0)
    scores = dice_from_counts(totals[:, 0, 1], totals[:, 0, 0], observed_core) + dice_from_counts(
        totals[:, 1, 1], totals[:, 1, 0], observed_whole
    )
    best = int(scores.argmax())
    return float(scores[best]), times[best]


@njit(cache=True, nogil=True)
def _count_crossings(density, before, core, whole, thresholds, start_i, start_j, start_k, counts):
    """Count the cells that pass each threshold, by the part of the step in which they do; update `before`.

    counts[part, region, 0] of all cells, counts[part, region, 1] of the cells in the observed region.
    """
    parts = counts.shape[0]
    ni, nj, nk = density.shape
    tiny = np.float32(1e-7)
    for i in range(ni):
        for j in range(nj):
            now_row = density[i, j]
            old_row = before[start_i + i, start_j + j]
            for k in range(nk):
                now = now_row[k]
                old = old_row[start_k + k]
                old_row[start_k + k] = now
                for region in range(2):
                    threshold = thresholds[region]
                    if (now > threshold) == (old > threshold):
                        continue
                    low = min(max(old, tiny), 1 - tiny)
                    high = min(max(now, tiny), 1 - tiny)
                    a = np.log(low / (1 - low))
                    b = np.log(high / (1 - high))
                    c = np.log(threshold / (1 - threshold))
                    share = (c - a) / (b - a) if b != a else np.float32(1)
                    part = min(max(int(np.ceil(share * parts)) - 1, 0), parts - 1)
                    change = 1 if now > threshold else -1
                    counts[part, region, 0] += change
                    observed = core if region == 0 else whole
                    if observed[start_i + i, start_j + j, start_k + k]:
                        counts[part, region, 1] += change


def _exact(
    found: Solve, tissue: Tissue, target: TumorMasks, thresholds: tuple[float, float], proliferation: float
) -> GrowthParameters:
    """Parameters of a solve at the best of the exactly solved moments around its interpolated one."""
    if found.rho_t <= 0:
        times = [1e-3]
    else:
        from TumorQueryLib.growth.solver import time_step

        part = time_step(found.infiltration_length, tissue.grid.spacing) / MOMENTS_PER_STEP
        times = [t for n in range(-2, 3) if (t := found.rho_t + n * part) > 0]
    scores = []
    for moment in grow_trajectory(found.seed, found.infiltration_length, tissue, rho_t=times):
        scores.append(sum(_dice(moment.on_grid(tissue.grid.shape), target, thresholds)))
    best = times[int(np.argmax(scores))]
    return GrowthParameters.from_identifiable(found.seed, found.infiltration_length, best, proliferation)


def _two_foci(
    search: _Search,
    solves: int,
    proliferation: float,
) -> list[GrowthParameters] | None:
    """A tumour for each half of a multifocal one, or None where the core has one component only."""
    target = search.target
    parts, count = ndimage.label(target.core)
    if count < 2:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    larger, smaller = np.argsort(-sizes, kind="stable")[:2] + 1
    distances = [
        ndimage.distance_transform_edt(parts != part, sampling=tuple(target.grid.spacing)) for part in (larger, smaller)
    ]
    nearer = distances[0] <= distances[1]
    found = []
    for side in (nearer, ~nearer):
        own = TumorMasks(target.core & side, target.whole & side, target.grid)
        half = _Search(search.tissue, own, search.thresholds, search.deadline, search.random_seed, search.progress)
        try:
            best = half.run(_centre_starts(own), max(1, solves // 2))
        except Cancelled:
            search.stopped = "cancelled"
            return None
        search.path += [
            Solve(len(search.path) + n, s.score, s.seed, s.infiltration_length, s.rho_t)
            for n, s in enumerate(half.path)
        ]
        search.stopped = half.stopped
        found.append(_exact(best, search.tissue, own, search.thresholds, proliferation))
        if half.stopped in ("cancelled", "time"):
            return found if len(found) == 2 else None
    return found


def _combined_density(densities: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Density of tumours that grew apart: a cell's place is free where none of them has taken it."""
    free = np.ones_like(densities[0])
    for density in densities:
        free *= 1 - density
    return 1 - free


def _density(parameters: GrowthParameters, tissue: Tissue) -> NDArray[np.float32]:
    from TumorQueryLib.growth import simulate

    return simulate(parameters, tissue)


def _dice(density: NDArray[np.float32], target: TumorMasks, thresholds: tuple[float, float]) -> tuple[float, float]:
    return dice(density > thresholds[0], target.core), dice(density > thresholds[1], target.whole)


def _cores() -> int:
    from TumorQueryLib.base.parallel import available_cores

    return available_cores()
