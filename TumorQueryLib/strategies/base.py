"""What every query strategy shares: the query, the match, the score and the registry."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from TumorQueryLib.base.errors import InputError, MissingDependencyError
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.regions import TumorMasks

if TYPE_CHECKING:
    from TumorQueryLib.database import TumorDatabase
    from TumorQueryLib.database.masks import Searchable

#: The bundled strategies: name -> (module, optional package it needs, extra that installs it).
#: Modules are imported when their strategy is asked for, so that none costs torch unasked.
_BUNDLED: dict[str, tuple[str, str | None, str | None]] = {
    "direct": ("TumorQueryLib.strategies.direct", None, None),
    "brute-force": ("TumorQueryLib.strategies.exact", None, None),
    "ds64": ("TumorQueryLib.strategies.downsampled", None, None),
    "ds32": ("TumorQueryLib.strategies.downsampled", None, None),
    "ae": ("TumorQueryLib.strategies.autoencoder", "torch", "learned"),
    "vae": ("TumorQueryLib.strategies.autoencoder", "torch", "learned"),
    "bihash": ("TumorQueryLib.strategies.hashing", "torch", "learned"),
    "radiomics": ("TumorQueryLib.strategies.radiomics", None, None),
    "random-projection": ("TumorQueryLib.strategies.random_projection", None, None),
}

_REGISTERED: dict[str, Callable[..., Strategy]] = {}


@dataclass(frozen=True)
class Match:
    """An entry of the database, compared with a query.

    Parameters
    ----------
    entry : int
        Number of the entry in the database.
    dice_core, dice_whole : float
        Dice of the core and of the whole tumour, in [0, 1], counted exactly on the
        atlas grid whatever the strategy ranks by.
    score : float
        What the strategy ranks by; higher is better.
    """

    entry: int
    dice_core: float
    dice_whole: float
    score: float

    @property
    def dice_sum(self) -> float:
        """Dice_T1Gd + Dice_FLAIR, in [0, 2]: the score of the paper (section 2.3)."""
        return self.dice_core + self.dice_whole


class Strategy(Protocol):
    """A way to rank the entries of a database by their likeness to a query."""

    name: str

    def query(self, masks: TumorMasks, top: int = 15) -> list[Match]:
        """The best `top` entries, best first; equal scores in the order of entry numbers.

        Fewer are returned where the database holds fewer. Raises `InputError` when the
        masks lie on another grid than the database's or `top` is below 1.
        """
        ...


def check_query(masks: TumorMasks, database: Searchable, top: int) -> None:
    """Refuse a query that cannot be compared with the database.

    Raises
    ------
    InputError
        When the masks lie on another grid than the database's, or `top` is below 1.
    """
    if top < 1:
        raise InputError(f"At least one match has to be asked for; top is {top}.")
    if not masks.grid.matches(database.grid):
        raise InputError(
            f"The masks lie on a grid of {masks.grid.shape} voxels, {_millimetres(masks.grid)}, the database "
            f"on the grid of {database.atlas_name}, {database.grid.shape} voxels, {_millimetres(database.grid)}; "
            "register them to that atlas first."
        )


def _millimetres(grid: Grid) -> str:
    spacing = " x ".join(f"{value:g}" for value in grid.spacing)
    centre = ", ".join(f"{value:.1f}" for value in grid.centre)
    return f"{spacing} mm, centred at ({centre}) mm RAS"


def register_strategy(name: str) -> Callable[[type], type]:
    """Class decorator: make a strategy known to `create_strategy` under `name`.

    The class is called with the database and the options given to `create_strategy`.
    """

    def register(strategy: type) -> type:
        _REGISTERED[name] = strategy
        return strategy

    return register


def strategy_names() -> list[str]:
    """Names of all strategies, the bundled ones first."""
    return list(dict.fromkeys([*_BUNDLED, *_REGISTERED]))


def create_strategy(name: str, database: TumorDatabase, **options: Any) -> Strategy:
    """Make the strategy of that name for a database.

    Parameters
    ----------
    name : str
        One of `strategy_names()`.
    database : TumorDatabase
    **options
        Handed to the strategy's class.

    Raises
    ------
    InputError
        When there is no such strategy.
    MissingDependencyError
        When the strategy needs a package that is not installed.
    """
    if name not in _REGISTERED and name in _BUNDLED:
        module, package, extra = _BUNDLED[name]
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if package is None or (error.name or "").split(".")[0] != package:
                raise
            raise MissingDependencyError(
                f"The strategy {name} needs the package {package}: pip install 'tumorquery[{extra}]'."
            ) from error
    if name not in _REGISTERED:
        raise InputError(f"There is no strategy {name!r}; choose one of {', '.join(strategy_names())}.")
    return _REGISTERED[name](database, **options)
