"""The forward model: Fisher-Kolmogorov growth in a brain, on an active box that grows with the tumour.

du/dt = div(D grad u) + rho u (1 - u), no flux out of the tissue (paper, equation 1).

Time runs in units of 1/rho: du/dtau = div(L^2 m grad u) + u (1 - u), with the
infiltration length L = sqrt(D/rho) and the mobility m of the tissue. A step is the
symmetric (Strang) splitting reaction/2, k/2, j/2, i, j/2, k/2, reaction/2: the reaction is
solved exactly, each axis by a strong-stability-preserving Runge-Kutta chain of second
order. At borders of tissue, where the axes do not commute, the error falls 3.0 to 3.4 times
from 2 mm on as the step halves (docs/refinement.md). So neither rho nor D limits the step for
stability, nothing becomes negative, nothing is clamped, and diffusion conserves mass.

The steps depend on L, spacing and tissue only, never on the duration; a moment between two
step ends is reached by a shortened step beside the sequence. So a moment of a trajectory and
a simulation that ends there have the same density to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import InputError, shown
from TumorQueryLib.geometry.regions import slices_between
from TumorQueryLib.growth import kernels
from TumorQueryLib.growth.parameters import GrowthParameters, checked_seed

#: Changes whenever the solver's numbers do; those of the versions before can be had again.
SOLVER_VERSION = "2"

#: The starting field: a Gaussian of this standard deviation and mass (integral of u).
#: 2 mm is resolved at 1.5 mm spacing; 18.7 mm^3 is what the paper's solver starts from,
#: so that rho T compares with the paper's.
INITIAL_CONDITION: dict[str, Any] = {"shape": "gaussian", "width_mm": 2.0, "mass_mm3": 18.7}

#: Longest step in units of 1/rho.
LONGEST_STEP = 0.8
#: Longest way, in cells, of the front (whose speed is 2 L) in a step.
LONGEST_WAY = 1.5
#: Largest D t / spacing^2 of a step. Of larger ones the axes' diffusion, one after the other, errs at the tissue's
#: borders, the more the flatter the tumour. With all limits the regions above 0.2 and 0.6 agree with those of much
#: shorter steps to a Dice of 0.99 and better, up to a length of 12 mm.
LARGEST_DIFFUSION_NUMBER = 1.0
#: The versions whose steps can be taken, each with its largest diffusion number where a tumour proliferates.
SOLVER_VERSIONS = {"1": math.inf, SOLVER_VERSION: LARGEST_DIFFUSION_NUMBER}
#: The box opens on a side where its outer layer exceeds this density; without proliferation
#: densities fall, so there it opens at a much lower one.
BOX_THRESHOLD = 1e-5
BOX_THRESHOLD_WITHOUT_PROLIFERATION = 1e-9
#: A time this close to a step end, as a share of the step, is that step end.
STEP_TOLERANCE = 1e-7
#: A tumour whose volume has not changed for this long (in 1/rho) has filled what it can reach.
STAGNATION = 5.0

#: Lines of the box take up a multiple of this many cells in memory, so that they start where
#: vector loads are fast.
_LANES = 8


def _shape_in_memory(cells: NDArray[np.int64]) -> tuple[int, int, int]:
    """Shape of the arrays that hold a box of so many cells along i, j, k."""
    i, j, k = (int(n) for n in cells)
    return i, j, k + -k % _LANES


def _aligned(size: int) -> NDArray[np.float32]:
    """An uninitialised array that starts at a cache line."""
    room = np.empty(size + 15, np.float32)
    offset = -(room.ctypes.data // 4) % 16
    return room[offset : offset + size]


@dataclass
class Moment:
    """A growing tumour at one time.

    Parameters
    ----------
    rho_t : float
        Time since the start in units of 1/rho.
    start : tuple of int
        Index of the active box's first cell in the grid.
    density : ndarray of float32
        Density in the active box, [i, j, k]; 0 outside it. A view that holds until the
        next moment is asked for.
    volume_ml : float
        Volume where the density exceeds the trajectory's threshold.
    """

    rho_t: float
    start: tuple[int, int, int]
    density: NDArray[np.float32]
    volume_ml: float

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The active box as slices of the grid."""
        i, j, k = (slice(a, a + n) for a, n in zip(self.start, self.density.shape))
        return i, j, k

    def on_grid(self, shape: tuple[int, int, int]) -> NDArray[np.float32]:
        """The density on the whole grid: a new float32 array of the grid's shape."""
        whole = np.zeros(shape, np.float32)
        whole[self.box] = self.density
        return whole


def simulate(
    parameters: GrowthParameters,
    anatomy: Atlas | Tissue,
    initial: NDArray[np.floating] | None = None,
    *,
    step_share: float = 1.0,
    solver_version: str = SOLVER_VERSION,
) -> NDArray[np.float32]:
    """Density of a tumour at the end of its duration.

    Parameters
    ----------
    parameters : GrowthParameters
    anatomy : Atlas or Tissue
    initial : ndarray, shape grid.shape, optional
        Density to start from, in [0, 1], instead of the Gaussian at the seed (which is then
        not used); cut to tissue.
    step_share : float
        Steps of this share of the usual length, to measure the error that the usual ones have.
    solver_version : str
        By which the steps are taken; an entry of a database is its own to the bit with the database's.

    Returns
    -------
    ndarray of float32, shape grid.shape
        Density in [0, 1], [i, j, k]; 0 outside tissue.

    Raises
    ------
    InputError
        When the seed lies outside the tissue or the grid, `initial` is not a density, or the version is unknown.
    """
    _check_version(solver_version)
    tissue = anatomy if isinstance(anatomy, Tissue) else Tissue.from_atlas(anatomy)
    if parameters.proliferation == 0:
        return _diffuse_only(parameters, tissue, initial, step_share)
    moments = grow_trajectory(
        parameters.seed,
        parameters.infiltration_length,
        tissue,
        rho_t=[parameters.rho_t],
        initial=initial,
        step_share=step_share,
        solver_version=solver_version,
    )
    return next(moments).on_grid(tissue.grid.shape)


def grow_trajectory(
    seed: Sequence[float],
    infiltration_length: float,
    tissue: Tissue,
    *,
    rho_t: Sequence[float] | None = None,
    threshold: float = 0.2,
    every_step: bool = False,
    stop_volume_ml: float | None = None,
    initial: NDArray[np.floating] | None = None,
    step_share: float = 1.0,
    solver_version: str = SOLVER_VERSION,
) -> Iterator[Moment]:
    """Grow one tumour and yield it at the moments asked for, all from one solve.

    Parameters
    ----------
    seed : sequence of float
        RAS mm, in tissue.
    infiltration_length : float
        sqrt(D/rho) in mm; rounded to seven digits, so that the value regained from D and rho
        gives the same steps.
    tissue : Tissue
    rho_t : sequence of float, optional
        Ascending times in units of 1/rho; each is hit exactly (to twelve digits).
    threshold : float
        Density above which `Moment.volume_ml` counts.
    every_step : bool
        Yield every step end, from the start on.
    stop_volume_ml : float, optional
        With `every_step`: the first step end that reaches this volume is the last.
    initial : ndarray, shape grid.shape, optional
        Density to start from instead of the Gaussian at the seed; cut to tissue.
    step_share : float
        Steps of this share of the usual length, to measure the error that the usual ones have.
    solver_version : str
        By which the steps are taken.

    Yields
    ------
    Moment
        Ends after the last time asked for; with `every_step`, at `stop_volume_ml` or when the
        tumour has filled what it can reach.

    Raises
    ------
    InputError
        When the seed lies outside the tissue, a number is out of its range, the version is unknown, or
        not exactly one of `rho_t` and `every_step` is given.
    """
    _check_version(solver_version)
    if (rho_t is None) != bool(every_step):
        raise InputError("A trajectory is asked for by exactly one of rho_t and every_step.")
    if not (math.isfinite(infiltration_length) and infiltration_length > 0):
        raise InputError(f"An infiltration length is a number above 0 (mm), not {infiltration_length}.")
    times = [] if rho_t is None else [float(value) for value in rho_t]
    if times and not (min(times) >= 0 and max(times) < math.inf and times == sorted(times)):
        raise InputError(f"Times rho t are numbers from 0 in ascending order, not {times}.")
    seed = checked_seed(seed)
    start = _gaussian(seed, tissue) if initial is None else _cut_to_tissue(initial, tissue)
    # Seven digits, so that the length regained from a stored D and rho gives the same steps.
    length = float(f"{infiltration_length:.7g}")
    dtau = step_share * time_step(length, tissue.grid.spacing, solver_version)
    solution = _Solution(tissue, *start, length, threshold, dtau)
    return _step_ends(solution, stop_volume_ml) if every_step else _moments_at_times(solution, times)


def time_step(
    infiltration_length: float, grid_spacing: NDArray[np.float64], solver_version: str = SOLVER_VERSION
) -> float:
    """Length of a step in units of 1/rho, for an infiltration length (mm) and spacings (mm)."""
    spacing = float(grid_spacing.min())
    step = min(LONGEST_STEP, LONGEST_WAY * spacing / (2 * infiltration_length))
    return min(step, SOLVER_VERSIONS[solver_version] * (spacing / infiltration_length) ** 2)


def _check_version(version: str) -> None:
    """Refuse a version of the solver whose numbers are not known here.

    Raises
    ------
    InputError
    """
    if version not in SOLVER_VERSIONS:
        raise InputError(
            f"The solver of the growth model has the versions {' and '.join(SOLVER_VERSIONS)}, not {shown(version)}; "
            "update the software for a later one."
        )


def starting_field(seed: Sequence[float], tissue: Tissue) -> NDArray[np.float32]:
    """The Gaussian of `INITIAL_CONDITION` at a seed (RAS mm), cut to tissue, renormalised to its mass.

    Returns
    -------
    ndarray of float32, shape grid.shape
        Density in [0, 1); its integral is the mass whatever the seed's place in its cell.

    Raises
    ------
    InputError
        When the seed lies outside the tissue, or the tissue around it is too small to hold
        the mass.
    """
    first, density = _gaussian(checked_seed(seed), tissue)
    i, j, k = (int(a) for a in first)
    return Moment(0.0, (i, j, k), density, 0.0).on_grid(tissue.grid.shape)


def _gaussian(seed: tuple[float, float, float], tissue: Tissue) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """`starting_field` within its reach: index of the first cell, and density."""
    index = tissue.seed_index(seed)
    spacing = tissue.grid.spacing
    width, mass = INITIAL_CONDITION["width_mm"], INITIAL_CONDITION["mass_mm3"]
    reach = 4 * width / spacing
    first = np.maximum(np.ceil(index - reach), 0).astype(np.int64)
    last = np.minimum(np.floor(index + reach) + 1, tissue.grid.shape).astype(np.int64)
    if (last <= first).any():
        raise InputError(
            f"Voxels of up to {spacing.max():.3g} mm are too large for a starting tumour of {mass} mm^3; resample the "
            "tissue maps to a few mm."
        )
    axes = [(np.arange(a, b) - x) * h for a, b, x, h in zip(first, last, index, spacing)]
    i, j, k = (np.exp(-0.5 * (x / width) ** 2) for x in axes)
    gaussian = i[:, None, None] * j[:, None] * k * tissue.mask[slices_between(first, last)]
    gaussian *= mass / (gaussian.sum() * spacing.prod())
    if gaussian.max() >= 1:
        place = ", ".join(f"{value:.1f}" for value in seed)
        raise InputError(
            f"The tissue around the seed ({place}) mm RAS is too small to hold a starting tumour of {mass} mm^3; "
            "choose a seed in larger tissue."
        )
    return first, gaussian.astype(np.float32)


def _cut_to_tissue(initial: NDArray[np.floating], tissue: Tissue) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A given starting field, checked and cut to tissue: index of the first cell that is not 0, and density."""
    if initial.shape != tissue.grid.shape:
        raise InputError(f"A starting field of shape {initial.shape} does not fit a grid of shape {tissue.grid.shape}.")
    first, last, valid = kernels.extent(np.ascontiguousarray(initial), tissue.mask)
    if not valid:
        raise InputError("A starting field is a density in [0, 1]; this one has other values.")
    if (last <= first).any():
        raise InputError("The starting field is 0 everywhere in the tissue.")
    box = slices_between(first, last)
    return first, np.where(tissue.mask[box], initial[box], 0).astype(np.float32)


def _diffuse_only(
    parameters: GrowthParameters, tissue: Tissue, initial: NDArray[np.floating] | None, step_share: float
) -> NDArray[np.float32]:
    """`simulate` at rho = 0, in equal steps of time."""
    start = _gaussian(parameters.seed, tissue) if initial is None else _cut_to_tissue(initial, tissue)
    spread = parameters.diffusivity * parameters.duration
    longest = step_share * LARGEST_DIFFUSION_NUMBER * float(tissue.grid.spacing.min()) ** 2
    steps = math.ceil(spread / longest)
    step = _Step.of(spread / steps, 0.0, tissue)
    box = _ActiveBox(tissue, *start, step, BOX_THRESHOLD_WITHOUT_PROLIFERATION)
    for _ in range(steps):
        box.advance(threshold=0.0)
    return Moment(0.0, box.start, box.density, 0.0).on_grid(tissue.grid.shape)


def _moments_at_times(solution: _Solution, times: list[float]) -> Iterator[Moment]:
    """The moments of `grow_trajectory(rho_t=times)`."""
    for time in times:
        steps, rest = solution.position(time)
        while solution.steps < steps and not solution.steady:
            solution.advance()
        if rest == 0 or solution.steady:
            yield solution.moment_at_end(time)
        else:
            yield solution.moment_within(time, rest)


def _step_ends(solution: _Solution, stop_volume_ml: float | None) -> Iterator[Moment]:
    """The moments of `grow_trajectory(every_step=True)`."""
    yield solution.moment_at_end(0.0)
    volume, last_change = solution.volume_ml, 0
    while (solution.steps - last_change) * solution.dtau <= STAGNATION:
        solution.advance()
        grown = solution.volume_ml
        yield solution.moment_at_end(solution.steps * solution.dtau)
        if stop_volume_ml is not None and grown >= stop_volume_ml:
            return
        if grown != volume or grown == 0:
            last_change = solution.steps
        volume = grown


class _Solution:
    """A growing tumour and its clock: whole steps of `dtau`, and moments at or between their ends."""

    def __init__(
        self,
        tissue: Tissue,
        first: NDArray[np.int64],
        density: NDArray[np.float32],
        infiltration_length: float,
        threshold: float,
        dtau: float,
    ) -> None:
        self._length = infiltration_length
        self._threshold = threshold
        self._tissue = tissue
        self.dtau = dtau
        self.steps = 0
        #: The last step changed nothing, so no further one will.
        self.steady = False
        self._box = _ActiveBox(tissue, first, density, self._step(self.dtau), BOX_THRESHOLD)
        self._count = int(np.count_nonzero(density > np.float32(threshold)))

    @property
    def volume_ml(self) -> float:
        """Volume above the threshold at the last step end."""
        return self._count * self._tissue.grid.voxel_volume_ml

    def advance(self) -> None:
        """Take one whole step."""
        before = self._count
        self._count = self._box.advance(self._threshold)
        self.steps += 1
        self.steady = self._count == before and self._box.steady

    def position(self, time: float) -> tuple[int, float]:
        """A time as a number of whole steps and what is left of it, 0 close to a step end."""
        # Twelve digits are what rho and T give back of their product.
        position = float(f"{time:.12g}") / self.dtau
        steps = math.floor(position + STEP_TOLERANCE)
        rest = position - steps
        return steps, rest * self.dtau if rest > STEP_TOLERANCE else 0.0

    def moment_at_end(self, time: float) -> Moment:
        """The last step end."""
        return Moment(time, self._box.start, self._box.density, self.volume_ml)

    def moment_within(self, time: float, rest: float) -> Moment:
        """`rest` after the last step end."""
        density, count = self._box.part_step(self._step(rest), self._threshold)
        return Moment(time, self._box.start, density, count * self._tissue.grid.voxel_volume_ml)

    def _step(self, duration: float) -> _Step:
        return _Step.of(self._length**2 * duration, duration, self._tissue)


@dataclass(frozen=True)
class _Step:
    """What the kernels need to know of a step.

    `numbers` are diffusivity * time / spacing^2 along i (whole step), j and k (half steps);
    `stages` keep each of them positive; `decay` = exp(-rho t) of half a step.
    """

    numbers: NDArray[np.float64]
    stages: NDArray[np.int64]
    decay: np.float32

    @classmethod
    def of(cls, spread: float, rho_t: float, tissue: Tissue) -> _Step:
        """The step in which white matter spreads by D t = `spread` (mm^2) and growth acts for `rho_t`."""
        numbers = spread / tissue.grid.spacing**2 * np.array([1.0, 0.5, 0.5])
        stages = np.maximum(2, 1 + np.ceil(2 * numbers * (1 + 1e-6))).astype(np.int64)
        return cls(numbers, stages, np.float32(math.exp(-rho_t / 2)))


class _ActiveBox:
    """The part of the grid that the tumour has reached.

    No flux leaves the box until it opens, so mass is conserved whatever its size. `density`
    is the tumour at the last step end, `_previous` at the one before; `_state` is already
    half a step further than `density`.
    """

    def __init__(
        self,
        tissue: Tissue,
        first: NDArray[np.int64],
        density: NDArray[np.float32],
        step: _Step,
        opens_at: float,
    ) -> None:
        self._tissue = tissue
        self._step = step
        self._opens_at = opens_at
        # About what the front and the spread of one step cover; the half steps' numbers are doubled.
        self._layers = 2 + np.ceil(2 * np.sqrt(step.numbers * [1, 2, 2])).astype(int)
        # Room for the largest box, of which memory is used as the box grows.
        lowest, highest = tissue.bounds
        room = math.prod(_shape_in_memory(np.maximum(highest, first + density.shape) - np.minimum(lowest, first)))
        self._fields = [_aligned(room) for _ in range(4)]
        self._faces = [_aligned(room) for _ in range(3)]
        self._place(first, first + density.shape)
        kernels.copy_into_zeros(density, self._density, np.zeros(3, np.int64))
        self._open_sides()
        self._open_step(step, self._density, self._state)

    @property
    def density(self) -> NDArray[np.float32]:
        """The tumour at the last step end, in the box."""
        return self._in_box(self._density)

    @property
    def _density(self) -> NDArray[np.float32]:
        return self._shaped(self._fields[0])

    @property
    def _state(self) -> NDArray[np.float32]:
        return self._shaped(self._fields[1])

    @property
    def _previous(self) -> NDArray[np.float32]:
        return self._shaped(self._fields[2])

    def _shaped(self, room: NDArray[np.float32]) -> NDArray[np.float32]:
        return room[: math.prod(self._shape)].reshape(self._shape)

    def _in_box(self, field: NDArray[np.float32]) -> NDArray[np.float32]:
        """A field without the cells that only fill up its lines; they are 0."""
        return field[:, :, : self._last[2] - self._first[2]]

    @property
    def start(self) -> tuple[int, int, int]:
        i, j, k = (int(a) for a in self._first)
        return i, j, k

    @property
    def steady(self) -> bool:
        """Whether the last step changed nothing."""
        return np.array_equal(self._density, self._previous)

    def advance(self, threshold: float) -> int:
        """Take a whole step; returns the number of cells above the threshold."""
        self._open_sides()
        self._fields[0], self._fields[2] = self._fields[2], self._fields[0]
        return self._finish_step(self._step, self._state, self._density, threshold, reopen=True)

    def part_step(self, step: _Step, threshold: float) -> tuple[NDArray[np.float32], int]:
        """A shorter step from `density`; the box itself stays where it is.

        Returns the density and the number of cells above the threshold.
        """
        self._open_sides()
        state, density = np.empty_like(self._state), np.empty_like(self._density)
        self._open_step(step, self._density, state)
        count = self._finish_step(step, state, density, threshold, reopen=False)
        return self._in_box(density), count

    def _open_step(self, step: _Step, density: NDArray[np.float32], state: NDArray[np.float32]) -> None:
        _, faces_j, faces_k = (self._shaped(room) for room in self._faces)
        kernels.open_step(density, state, faces_j, faces_k, step.decay, step.stages, step.numbers)

    def _finish_step(
        self, step: _Step, state: NDArray[np.float32], density: NDArray[np.float32], threshold: float, reopen: bool
    ) -> int:
        faces_i, faces_j, faces_k = (self._shaped(room) for room in self._faces)
        kernels.cross_step(state, faces_i, step.stages, step.numbers)
        return kernels.close_step(
            state, density, faces_j, faces_k, step.decay, step.stages, step.numbers, np.float32(threshold), reopen
        )

    def _open_sides(self) -> None:
        """Move the box's sides outwards where the tumour has come near them."""
        outer = kernels.outer_maxima(self._density, int(self._last[2] - self._first[2])).reshape(3, 2)
        lowest, highest = self._tissue.bounds
        movable = np.stack([self._first > lowest, self._last < highest], axis=1)
        if not (movable & (outer > self._opens_at)).any():
            return
        # Sides that will follow soon are opened along: laying out a box costs about as much as a step.
        near = movable & (outer > 0.1 * self._opens_at)
        first = np.where(near[:, 0], np.maximum(self._first - self._layers, lowest), self._first)
        last = np.where(near[:, 1], np.minimum(self._last + self._layers, highest), self._last)
        before, offset = (self.density, self._in_box(self._state)), self._first - first
        # The fields in use stay as they are until they have been copied.
        self._fields = self._fields[2:] + self._fields[:2]
        self._place(first, last)
        for old, new in zip(before, (self._density, self._state)):
            kernels.copy_into_zeros(old, new, offset)

    def _place(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> None:
        """Make first <= index < last the box, with closed sides; the fields are left to be filled."""
        self._first, self._last = first, last
        self._shape = _shape_in_memory(last - first)
        lines = int(last[2] - first[2])
        kernels.lay_faces(self._tissue.mobility, first, lines, *(self._shaped(room) for room in self._faces))
