"""Which tumours a database holds: the priors, and the solves that realise them.

Both priors hand out numbered solves. What a solve gives depends on the prior's options
and its number alone, so solves can be done in any order, anywhere, and repeated.

`trajectory` (default). In units of 1/rho, place and infiltration length L = sqrt(D/rho)
define a whole trajectory, and every moment of it is a tumour of its own: one solve gives
several entries. Places and L come from one quasi-random sequence (Halton, shifted by the
seed), because places matter more than moments: L log-uniform in 1 to 8 mm, places uniform
over cells of the largest connected tissue with p_WM + p_GM above 0.7. Moments are
log-uniform in the whole tumour's volume up to 250 ml, one in each of as many equal strata.
The strata begin where the core first reaches 0.2 ml, since nearly every patient's tumour
has a core; in every fifth trajectory they begin at 2 ml whatever the core, which leaves
some 5 % of entries without a visible core for the patients that have none. rho is drawn
per trajectory from the paper's marginal; D and T follow.

`independent`. The paper's six parameters per entry (section 2.3): D_w, rho and T uniform in
its box, the place uniform in tissue, rejected by final size. The paper does not say how it
rejected; of what its authors published, the quantiles of the front distance
2 sqrt(D rho) T (26, 44, 91, 176, 315 mm at 0, 5, 50, 95, 100 %) and the least rho T (7.8)
are known. A draw is accepted with a probability that depends on its front distance alone,
such that the accepted ones have these quantiles (log-linear between them), if rho T is at
least 7.8 and the tumour is visible at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.database.masks import Runs, encode_mask
from TumorQueryLib.database.schema import Entries
from TumorQueryLib.geometry.regions import THRESHOLD_CORE, THRESHOLD_WHOLE
from TumorQueryLib.growth import GrowthParameters, Moment, grow_trajectory

#: A core counts as visible from this volume on.
VISIBLE_CORE_ML = 0.2
INFILTRATION_LENGTHS_MM = (1.0, 8.0)
WHOLE_VOLUMES_ML = (2.0, 250.0)
SEED_TISSUE = 0.7
#: Of this many trajectories one keeps its moments before the core is visible.
CORELESS_EVERY = 5
#: The paper's box (LMI's `samples_extended`): D_w mm^2/day, rho 1/day, T day.
PAPER_BOX = {"diffusivity": (0.02, 1.5), "proliferation": (0.002, 0.2), "duration": (50.0, 1500.0)}
#: Quantiles of the paper's rho: level -> 1/day; linear between.
PAPER_PROLIFERATION = {0.0: 0.002, 0.01: 0.0084, 0.5: 0.079, 0.99: 0.197, 1.0: 0.2}
#: Quantiles of the paper's front distance 2 sqrt(D rho) T: level -> mm; log-linear between.
PAPER_FRONT_DISTANCE = {0.0: 26.0, 0.05: 44.0, 0.5: 91.0, 0.95: 176.0, 1.0: 315.0}
PAPER_LEAST_RHO_T = 7.8
HALTON_BASES = (2, 3, 5, 7, 11, 13)
SAMPLINGS = ("trajectory", "independent")
MOST_ENTRIES = 1_000_000


class Prior(Protocol):
    """A distribution of tumours, realised by numbered solves."""

    solves: int

    def grow(self, number: int, tissue: Tissue) -> Entries:
        """The entries of one solve."""
        ...

    def describe(self) -> dict[str, Any]:
        """The prior in words and numbers, for the record in the database."""
        ...


@dataclass(frozen=True, eq=False)
class SeedCells:
    """Where tumours may start.

    Parameters
    ----------
    first : ndarray of float64, shape (3,)
        Lower corner of the cells' bounding box, in fractional indices.
    size : ndarray of float64, shape (3,)
        Size of that box in voxels.
    allowed : ndarray of bool, shape grid.shape
    tissue : Tissue
    """

    first: NDArray[np.float64]
    size: NDArray[np.float64]
    allowed: NDArray[np.bool_]
    tissue: Tissue

    @classmethod
    def of(cls, atlas: Atlas, tissue: Tissue) -> SeedCells:
        """Cells with p_WM + p_GM above 0.7 in the largest connected tissue of an atlas.

        Islands of tissue are left out: a tumour could not grow to size there.
        """
        parts, _ = ndimage.label(tissue.mask)
        largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
        allowed = (parts == largest) & (atlas.white_matter + atlas.grey_matter > np.float32(SEED_TISSUE))
        if not allowed.any():
            raise InputError(f"No cell of the atlas {atlas.name} has white + grey matter above {SEED_TISSUE}.")
        cells = np.argwhere(allowed)
        first = cells.min(axis=0) - 0.5
        return cls(first, cells.max(axis=0) + 0.5 - first, allowed, tissue)

    def place(self, unit: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Points of the unit cube (n, 3) as RAS mm (n, 3), and which of them a tumour may start from."""
        index = self.first + unit * self.size
        cell = np.clip(np.rint(index).astype(np.int64), 0, np.array(self.allowed.shape) - 1)
        return self.tissue.grid.to_ras(index), self.allowed[tuple(cell.T)]


class TrajectoryPrior:
    """The prior `trajectory`; see the module's text.

    Parameters
    ----------
    cells : SeedCells
    entries : int
        Entries in all.
    random_seed : int
    moments : int, optional
        Entries a trajectory; by default 2 below 20,000 entries, 3 from there.
    """

    def __init__(self, cells: SeedCells, entries: int, random_seed: int, moments: int | None = None) -> None:
        self.entries, self.random_seed = entries, random_seed
        self.moments = moments or (2 if entries < 20_000 else 3)
        self.solves = -(-entries // self.moments)
        shift = np.random.default_rng(random_seed).random(6)
        points = self._points_in_cells(cells, shift)
        places, _ = cells.place(points[:, :3])
        # Neighbours follow each other, so that what a query reads lies together in the file.
        order = np.argsort(_morton_code(cells.tissue.grid.to_index(places)), kind="stable")
        points, self._places = points[order], places[order]
        self._numbers = order
        shortest, longest = INFILTRATION_LENGTHS_MM
        lengths = shortest * (longest / shortest) ** points[:, 3]
        self._proliferation = np.array([_paper_proliferation(level) for level in points[:, 5]])
        self._diffusivity = lengths**2 * self._proliferation
        self._shift = points[:, 4]

    def _points_in_cells(self, cells: SeedCells, shift: NDArray[np.float64]) -> NDArray[np.float64]:
        """The first points of the sequence whose places are in tissue, shape (solves, 6)."""
        found: list[NDArray[np.float64]] = []
        first = count = 0
        while count < self.solves:
            points = (halton(first, 4096) + shift) % 1.0
            found.append(points[cells.place(points[:, :3])[1]])
            first, count = first + len(points), count + len(found[-1])
        return np.concatenate(found)[: self.solves]

    def grow(self, number: int, tissue: Tissue) -> Entries:
        """The moments of trajectory `number`; the last one may have fewer than the others."""
        wanted = min(self.moments, self.entries - number * self.moments)
        positions = [(n + self._shift[number]) / self.moments for n in range(self.moments)][:wanted]
        x, y, z = self._places[number].tolist()
        parameters = GrowthParameters(
            (x, y, z), float(self._diffusivity[number]), float(self._proliferation[number]), 1.0
        )
        from_first_core = self._numbers[number] % CORELESS_EVERY != 0
        return _grow_moments(parameters, positions, from_first_core, number, tissue)

    def describe(self) -> dict[str, Any]:
        """The prior in words and numbers, for the record in the database."""
        return {
            "name": "trajectory",
            "trajectories": self.solves,
            "moments_per_trajectory": self.moments,
            "infiltration_length_mm": "log-uniform {:g}-{:g}".format(*INFILTRATION_LENGTHS_MM),
            "whole_tumour_volume_ml": "log-uniform up to {1:g} from where the core reaches {2:g}, "
            "in one of {3} trajectories from {0:g}".format(*WHOLE_VOLUMES_ML, VISIBLE_CORE_ML, CORELESS_EVERY),
            "seed": f"uniform over the largest connected tissue where white + grey matter > {SEED_TISSUE:g}",
            "proliferation_per_day": {str(level): value for level, value in PAPER_PROLIFERATION.items()},
            "sequence": "Halton, 6 dimensions, shifted",
        }


def halton(first: int, count: int) -> NDArray[np.float64]:
    """Points of the Halton sequence in six dimensions, unscrambled.

    Those of `scipy.stats.qmc.Halton` to the last bit, without `scipy.stats`: its import takes a third of the time in
    which a process of the library starts, and nothing else here needs it.

    Parameters
    ----------
    first : int
        Number of the first point, from 0.
    count : int

    Returns
    -------
    ndarray, shape (count, 6), float64, in [0, 1)

    References
    ----------
    J. H. Halton, Numerische Mathematik 2 (1960), 84-90.
    """
    points = np.zeros((count, len(HALTON_BASES)))
    for column, base in zip(points.T, HALTON_BASES):
        rest, weight = np.arange(first, first + count), 1.0 / base
        while rest.any():
            column += (rest % base) * weight
            rest, weight = rest // base, weight / base
    return points


class IndependentPrior:
    """The prior `independent`, the paper's own; see the module's text.

    Parameters
    ----------
    cells : SeedCells
    entries : int
    random_seed : int
    """

    def __init__(self, cells: SeedCells, entries: int, random_seed: int) -> None:
        self._cells, self.solves, self.random_seed = cells, entries, random_seed

    def grow(self, number: int, tissue: Tissue) -> Entries:
        """The entry `number`."""
        return grow_independent(self._cells, np.random.default_rng([self.random_seed, number]), number, tissue)

    def describe(self) -> dict[str, Any]:
        """The prior in words and numbers, for the record in the database."""
        return {
            "name": "independent",
            "box": {name: list(limits) for name, limits in PAPER_BOX.items()},
            "front_distance_mm": {str(level): value for level, value in PAPER_FRONT_DISTANCE.items()},
            "least_rho_t": PAPER_LEAST_RHO_T,
            "seed": f"uniform over the largest connected tissue where white + grey matter > {SEED_TISSUE:g}",
        }


def make_prior(sampling: str, cells: SeedCells, entries: int, random_seed: int) -> Prior:
    """The prior of that name.

    Raises
    ------
    InputError
        When there is no such prior, no entry is asked for, or the random seed is negative.
    """
    check_sampling(sampling, random_seed)
    if not 1 <= entries <= MOST_ENTRIES:
        raise InputError(f"A database holds 1 to {MOST_ENTRIES:,} entries; {entries} were asked for.")
    if sampling == "trajectory":
        return TrajectoryPrior(cells, entries, random_seed)
    return IndependentPrior(cells, entries, random_seed)


def check_sampling(sampling: str, random_seed: int) -> None:
    """Refuse a prior that there is not, and what is no random seed.

    Raises
    ------
    InputError
    """
    if sampling not in SAMPLINGS:
        raise InputError(f"There is no sampling {sampling!r}; choose one of {', '.join(SAMPLINGS)}.")
    if not 0 <= random_seed < 2**63:
        raise InputError(f"The random seed is a number from 0 to 2^63 - 1; it is {random_seed}.")


def grow_random_moment(cells: SeedCells, generator: np.random.Generator, number: int, tissue: Tissue) -> Entries:
    """One moment of one trajectory of the prior `trajectory`, drawn at random."""
    shortest, longest = INFILTRATION_LENGTHS_MM
    length = shortest * (longest / shortest) ** generator.random()
    proliferation = _paper_proliferation(generator.random())
    from_first_core = generator.random() >= 1 / CORELESS_EVERY
    parameters = GrowthParameters(_random_place(cells, generator), length**2 * proliferation, proliferation, 1.0)
    return _grow_moments(parameters, [generator.random()], from_first_core, number, tissue)


def grow_independent(cells: SeedCells, generator: np.random.Generator, number: int, tissue: Tissue) -> Entries:
    """One tumour of the prior `independent`."""
    while True:
        parameters = _draw_independent(cells, generator)
        moments = grow_trajectory(parameters.seed, parameters.infiltration_length, tissue, rho_t=[parameters.rho_t])
        core, whole = encode_regions(next(moments), tissue)
        if whole.volume:
            return _entries([parameters], [core], [whole], number)


def _draw_independent(cells: SeedCells, generator: np.random.Generator) -> GrowthParameters:
    place = _random_place(cells, generator)
    levels, distances = list(PAPER_FRONT_DISTANCE), list(PAPER_FRONT_DISTANCE.values())
    distance = float(np.exp(np.interp(generator.random(), levels, np.log(distances))))
    shortest, longest = PAPER_BOX["duration"]
    slowest = 2 * np.sqrt(PAPER_BOX["diffusivity"][0] * PAPER_BOX["proliferation"][0])
    while True:
        diffusivity = float(generator.uniform(*PAPER_BOX["diffusivity"]))
        proliferation = float(generator.uniform(*PAPER_BOX["proliferation"]))
        speed = 2 * math.sqrt(diffusivity * proliferation)
        duration = distance / speed
        # Uniform in T means, at a fixed distance, a weight of dT / d(distance) = 1 / speed.
        likely = generator.random() < slowest / speed
        if likely and shortest <= duration <= longest and proliferation * duration >= PAPER_LEAST_RHO_T:
            return GrowthParameters(place, diffusivity, proliferation, duration)


def _random_place(cells: SeedCells, generator: np.random.Generator) -> tuple[float, float, float]:
    while True:
        places, allowed = cells.place(generator.random((1, 3)))
        if allowed[0]:
            x, y, z = places[0].tolist()
            return x, y, z


def _paper_proliferation(level: float) -> float:
    """The paper's marginal of rho (1/day) at a level in [0, 1]."""
    return float(np.interp(level, list(PAPER_PROLIFERATION), list(PAPER_PROLIFERATION.values())))


def _morton_code(index: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers that order points (n, 3) of non-negative indices along a space-filling curve."""
    cells = np.rint(index).astype(np.int64)
    code = np.zeros(len(cells), np.int64)
    for bit in range(16):
        for axis in range(3):
            code |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code


def encode_regions(moment: Moment, tissue: Tissue) -> tuple[Runs, Runs]:
    """Core and whole tumour of a moment, run-length coded."""
    shape = tissue.grid.shape
    # The thresholds in the density's own type, as `density > 0.6` compares in NumPy.
    core = encode_mask(moment.density > np.float32(THRESHOLD_CORE), shape, moment.start)
    whole = encode_mask(moment.density > np.float32(THRESHOLD_WHOLE), shape, moment.start)
    return core, whole


def _grow_moments(
    parameters: GrowthParameters, positions: list[float], from_first_core: bool, number: int, tissue: Tissue
) -> Entries:
    """Entries of one trajectory at the given ascending positions in [0, 1) of its range of volumes.

    Only place, diffusivity and proliferation of `parameters` count.
    """
    smallest, largest = WHOLE_VOLUMES_ML
    voxel_ml = tissue.grid.voxel_volume_ml
    # Where the range begins; until a core shows, moments of the plain range are kept in case none ever does.
    lowest: float | None = None if from_first_core else smallest
    kept: list[tuple[float, Runs, Runs]] = []
    for moment in grow_trajectory(parameters.seed, parameters.infiltration_length, tissue, every_step=True):
        if lowest is None and moment.volume_ml >= smallest:
            core_ml = np.count_nonzero(moment.density > np.float32(THRESHOLD_CORE)) * voxel_ml
            if core_ml >= VISIBLE_CORE_ML:
                lowest = min(moment.volume_ml, largest)
                kept.clear()
            elif moment.volume_ml >= largest:
                lowest = smallest
        # At most one entry from a step end: every entry is a tumour of its own.
        if len(kept) < len(positions):
            start = smallest if lowest is None else lowest
            if moment.volume_ml >= start * (largest / start) ** positions[len(kept)]:
                kept.append((moment.rho_t, *encode_regions(moment, tissue)))
        if len(kept) == len(positions) and lowest is not None:
            break
    else:
        raise InputError(
            f"The atlas' tissue is too small: a tumour filled what it could reach before {largest:g} ml; "
            "the sampling 'trajectory' needs an adult brain."
        )
    tumours = [
        GrowthParameters(
            parameters.seed, parameters.diffusivity, parameters.proliferation, rho_t / parameters.proliferation
        )
        for rho_t, _, _ in kept
    ]
    return _entries(tumours, [core for _, core, _ in kept], [whole for _, _, whole in kept], number)


def _entries(parameters: list[GrowthParameters], core: list[Runs], whole: list[Runs], trajectory: int) -> Entries:
    return Entries(
        seed=np.array([p.seed for p in parameters], dtype=np.float64).reshape(-1, 3),
        diffusivity=np.array([p.diffusivity for p in parameters], dtype=np.float64),
        proliferation=np.array([p.proliferation for p in parameters], dtype=np.float64),
        duration=np.array([p.duration for p in parameters], dtype=np.float64),
        trajectory=np.full(len(parameters), trajectory, dtype=np.int64),
        runs={"core": core, "whole": whole},
    )
