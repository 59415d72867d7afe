"""The search for a tumour that fits: downhill simplexes over its place and infiltration length.

Nelder and Mead 1965, doi 10.1093/comjnl/7.4.308.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from threading import Event

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.parallel import available_cores
from TumorQueryLib.base.progress import Progress
from TumorQueryLib.estimates.moments import best_moment
from TumorQueryLib.geometry.regions import TumorMasks

#: Seed (RAS mm) and infiltration length (mm).
Start = tuple[tuple[float, float, float], float]

CHAINS = 2  # simplexes, each from another start and in its own thread
SEED_STEP = 3.0  # mm; edge of the first simplex
LENGTH_STEP = 0.3  # of log(infiltration length)
SHORTEST_LENGTH, LONGEST_LENGTH = 0.5, 12.0  # mm
CONVERGED = 0.02  # share of the first simplex's edges
CONVERGED_SCORE = 5e-4  # of the Dice sum within the simplex
REPORT_EVERY = 0.2  # s, between two calls of progress while a solve runs


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
    of : {"whole", "focus 1", "focus 2"}
        What the score is of: scores of different parts do not compare.
    """

    number: int
    score: float
    seed: tuple[float, float, float]
    infiltration_length: float
    rho_t: float
    of: str = "whole"


#: How searches end, that which says least of the figures first.
ENDS = ("time", "budget", "converged")


class _HaltedError(Exception):
    """The search ends before its solve is done."""


class Search:
    """Downhill simplexes over seed and log infiltration length in one anatomy, and every solve they made."""

    def __init__(
        self,
        tissue: Tissue,
        target: TumorMasks,
        thresholds: tuple[float, float],
        deadline: float,
        random_seed: int,
        *,
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
        return max(self.path, key=lambda solve: solve.score)

    def of_other(self, target: TumorMasks, *, progress: Progress) -> Search:
        """A search for another target in the same anatomy and time."""
        return Search(self.tissue, target, self.thresholds, self.deadline, self.random_seed, progress=progress)

    def take_over(self, other: Search, of: str) -> None:
        """Add another search's solves to the path, as those of a part."""
        self.path += [replace(solve, number=len(self.path) + n, of=of) for n, solve in enumerate(other.path)]

    def _together(self, chains: list[_Chain], tasks: list[Callable[[], bool]], halt: Event, solves: int) -> list[bool]:
        """Run the chains' tasks on all cores while reporting; add their solves to the path in a fixed order."""
        before = len(self.path)
        with ThreadPoolExecutor(available_cores()) as pool:
            waiting = [pool.submit(task) for task in tasks]
            try:
                while wait(waiting, timeout=REPORT_EVERY).not_done:
                    made = [solve for chain in chains for solve in chain.solves]
                    best = max((solve.score for solve in [*self.path, *made]), default=0.0)
                    self.progress(min(1.0, (before + len(made)) / solves), f"Refining, Dice sum {best:.3f}")
                    if time.monotonic() > self.deadline and (self.path or made):
                        self.stopped = "time"
                        break
            finally:
                # Out of time, cancelled or failed: the solves that still run end at their next step.
                if not all(future.done() for future in waiting):
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
        placed = self.tissue.moved_into(seed)
        try:
            score, rho_t = best_moment(placed, length, self.tissue, self.target, self.thresholds, halt)
        except InputError:
            # Tissue too small to start a tumour in.
            score, rho_t = 0.0, 0.0
        return score, rho_t, placed, length


class _Chain:
    """A row of solves that follow each other in one thread, at most `budget` of them."""

    def __init__(self, search: Search, halt: Event, budget: int) -> None:
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


def as_point(point: NDArray[np.float64]) -> tuple[float, float, float]:
    """A point (3,) as three floats."""
    return float(point[0]), float(point[1]), float(point[2])
