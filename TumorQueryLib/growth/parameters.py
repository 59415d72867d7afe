"""The parameters of one simulated tumour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from TumorQueryLib.base.errors import InputError


@dataclass(frozen=True)
class GrowthParameters:
    """Place, spread, growth and age of a tumour in the Fisher-Kolmogorov model.

    du/dt = div(D grad u) + rho u (1 - u), with D = D_w (p_WM + p_GM / 10).

    Parameters
    ----------
    seed : tuple of float
        Where the tumour starts, RAS mm; need not be a voxel centre.
    diffusivity : float
        D_w, in white matter, mm^2/day; above 0.
    proliferation : float
        rho, 1/day; 0 (diffusion alone) or above.
    duration : float
        T, days since the start; above 0.

    Raises
    ------
    InputError
        When a number is not finite or out of its range.

    Notes
    -----
    (D, rho, T) and (c D, c rho, T / c) give the same density, so one image fixes
    no more than `infiltration_length` and `rho_t` beside the seed.
    """

    seed: tuple[float, float, float]
    diffusivity: float
    proliferation: float
    duration: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", checked_seed(self.seed))
        for name, unit, lowest_allowed in (
            ("diffusivity", "mm^2/day", False),
            ("proliferation", "1/day", True),
            ("duration", "days", False),
        ):
            value = float(getattr(self, name))
            if not math.isfinite(value) or value < 0 or (value == 0 and not lowest_allowed):
                bound = "at least 0" if lowest_allowed else "above 0"
                raise InputError(f"The {name} of a tumour is a number {bound} ({unit}), not {value}.")
            object.__setattr__(self, name, value)

    @classmethod
    def from_identifiable(
        cls, seed: Sequence[float], infiltration_length: float, rho_t: float, proliferation: float
    ) -> GrowthParameters:
        """The parameters that have this length sqrt(D/rho) (mm), this rho T and this rho (1/day)."""
        if not proliferation > 0:
            raise InputError(f"A proliferation above 0 (1/day) is needed, not {proliferation}.")
        return cls(
            seed=checked_seed(seed),
            diffusivity=infiltration_length**2 * proliferation,
            proliferation=proliferation,
            duration=rho_t / proliferation,
        )

    @property
    def infiltration_length(self) -> float:
        """sqrt(D_w / rho) in mm; infinite without proliferation."""
        if self.proliferation == 0:
            return math.inf
        return math.sqrt(self.diffusivity / self.proliferation)

    @property
    def rho_t(self) -> float:
        """The age rho T: in units of the growth time, dimensionless."""
        return self.proliferation * self.duration


def checked_seed(seed: Sequence[float]) -> tuple[float, float, float]:
    """A seed as three finite floats; `InputError` for anything else."""
    try:
        x, y, z = (float(value) for value in seed)
    except (TypeError, ValueError) as error:
        raise InputError(f"A seed is three numbers (RAS mm), not {seed!r}.") from error
    if not all(math.isfinite(value) for value in (x, y, z)):
        raise InputError(f"A seed is three finite numbers (RAS mm), not {seed!r}.")
    return (x, y, z)
