"""What every query strategy shares: the query, the match, the score, and the table of what each is and needs."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from TumorQueryLib.base.errors import InputError, MissingDependencyError
from TumorQueryLib.base.progress import Progress, no_progress

if TYPE_CHECKING:
    from TumorQueryLib.database import TumorDatabase
    from TumorQueryLib.database.masks import Searchable
    from TumorQueryLib.geometry.grid import Grid
    from TumorQueryLib.geometry.regions import TumorMasks

_Class = TypeVar("_Class", bound="Strategy")


@dataclass(frozen=True)
class StrategyOption:
    """An option that a strategy takes.

    Parameters
    ----------
    kind : {bool, int, Path}
        Whole numbers are at least 0.
    default : bool, int or None
    description : str
        What it does, in a few words.
    """

    kind: type[bool] | type[int] | type[Path]
    default: bool | int | None
    description: str


@dataclass(frozen=True)
class StrategyInfo:
    """What a strategy is and needs.

    Parameters
    ----------
    module : str
        The module that registers it; imported when the strategy is asked for, so that
        none costs torch unasked. Empty where the class is registered already.
    packages : tuple of str
        Packages that it cannot do without, beyond those that every installation has.
    extra : str
        The extra of this software that installs them.
    exact : bool
        Ranks by the exact Dice of all entries.
    learned : bool
        Its networks are made by `train_strategy`.
    ranks_by_codes : bool
        Is an `EmbeddedStrategy`, whose codes of a database lie in the user's cache.
    prepares : bool
        Makes something of the database when it is created, and takes `progress`.
    options : mapping of str to StrategyOption
        Keyword arguments of its class that a user may give.
    """

    module: str = ""
    packages: tuple[str, ...] = ()
    extra: str = ""
    exact: bool = False
    learned: bool = False
    ranks_by_codes: bool = False
    prepares: bool = False
    options: Mapping[str, StrategyOption] = field(default_factory=dict)


RERANK = {"rerank": StrategyOption(int, 0, "how many of the best to put in the order of their exact Dice")}


def _learned(module: str) -> StrategyInfo:
    model = StrategyOption(Path, None, "a model file, in place of the one trained on the database or bundled")
    return StrategyInfo(
        module,
        packages=("torch", "safetensors"),
        extra="learned",
        learned=True,
        ranks_by_codes=True,
        prepares=True,
        options={"model": model, **RERANK},
    )


#: In the order of the paper's Table 1, then the untrained baseline.
_STRATEGIES = {
    "direct": StrategyInfo("TumorQueryLib.strategies.direct", exact=True),
    "brute-force": StrategyInfo("TumorQueryLib.strategies.exact", exact=True),
    "ds64": StrategyInfo("TumorQueryLib.strategies.downsampled", prepares=True, options=RERANK),
    "ds32": StrategyInfo("TumorQueryLib.strategies.downsampled", prepares=True, options=RERANK),
    "vae": _learned("TumorQueryLib.strategies.autoencoder"),
    "ae": _learned("TumorQueryLib.strategies.autoencoder"),
    "bihash": _learned("TumorQueryLib.strategies.hashing"),
    "radiomics": StrategyInfo(
        "TumorQueryLib.strategies.radiomics",
        ranks_by_codes=True,
        prepares=True,
        options={
            "standardised": StrategyOption(bool, False, "divide each feature by its spread over the database"),
            "pyradiomics": StrategyOption(bool, False, "let pyradiomics compute the query's features"),
            **RERANK,
        },
    ),
    "random-projection": StrategyInfo(
        "TumorQueryLib.strategies.random_projection", ranks_by_codes=True, prepares=True, options=RERANK
    ),
}

#: Shapes of the learned strategies' networks, the default first; see `networks.Architecture`.
ARCHITECTURES = ("pooled", "paper")

_CLASSES: dict[str, Callable[..., Strategy]] = {}


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
        """Dice of core and whole tumour, added, in [0, 2]: the score of the paper (section 2.3)."""
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


def register_strategy(name: str, info: StrategyInfo | None = None) -> Callable[[type[_Class]], type[_Class]]:
    """Class decorator: make a strategy known to `create_strategy` under `name`.

    The class is called with the database and, by keyword, the options given to
    `create_strategy`, and `progress` where `info.prepares`.

    Parameters
    ----------
    name : str
    info : StrategyInfo, optional
        What the strategy is and needs; not given for the bundled ones, which stand in
        the table of this module.
    """

    def register(strategy: type[_Class]) -> type[_Class]:
        if info is not None or name not in _STRATEGIES:
            _STRATEGIES[name] = info or StrategyInfo()
        _CLASSES[name] = strategy
        return strategy

    return register


def strategy_table() -> dict[str, StrategyInfo]:
    """What every strategy is and needs, by name, the bundled ones first."""
    return dict(_STRATEGIES)


def strategy_names() -> list[str]:
    """Names of all strategies, the bundled ones first."""
    return list(_STRATEGIES)


def strategy_info(name: str) -> StrategyInfo:
    """What the strategy of that name is and needs.

    Raises
    ------
    InputError
        When there is no such strategy.
    """
    if name not in _STRATEGIES:
        raise InputError(f"There is no strategy {name!r}; choose one of {', '.join(_STRATEGIES)}.")
    return _STRATEGIES[name]


def learned_strategies() -> list[str]:
    """Names of the strategies whose networks are made by `train_strategy`."""
    return [name for name, info in _STRATEGIES.items() if info.learned]


def parse_strategy_options(name: str, options: Mapping[str, object]) -> dict[str, bool | int | Path]:
    """Check the options of a strategy, and read those that are given as text.

    Parameters
    ----------
    name : str
        One of `strategy_names()`.
    options : mapping of str
        Values by the option's name, of the option's kind or as text: `{"rerank": "100"}`.

    Returns
    -------
    dict
        The given options, each of its kind; those left out stay left out.

    Raises
    ------
    InputError
        When the strategy is unknown, has no such option, or the value is not of its kind.
    """
    known = strategy_info(name).options
    for option in options:
        if option not in known:
            accepted = ", ".join(f"{other} ({known[other].description})" for other in known) or "none"
            raise InputError(f"The strategy {name} has no option {option!r}; it accepts {accepted}.")
    return {option: _option_value(name, option, known[option].kind, value) for option, value in options.items()}


_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _option_value(
    name: str, option: str, kind: type[bool] | type[int] | type[Path], value: object
) -> bool | int | Path:
    accepted = "the path of a file"
    if kind is bool:
        accepted = "true or false"
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in _TRUTHS:
            return _TRUTHS[value.strip().lower()]
    elif kind is int:
        accepted = "a whole number of at least 0"
        if isinstance(value, str) and value.strip().isdecimal():
            return int(value)
        # True and False are whole numbers to Python.
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    elif isinstance(value, str | os.PathLike) and str(value).strip():
        return Path(value)
    raise InputError(f"The option {option} of the strategy {name} is {accepted}, not {value!r}.")


def require_packages(name: str) -> None:
    """Refuse a strategy whose packages are not installed.

    Raises
    ------
    MissingDependencyError
        Naming the package and how to get it.
    """
    info = strategy_info(name)
    for package in info.packages:
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(
                f'The strategy {name} needs the package {package}: pip install "tumorquery[{info.extra}]"; in 3D '
                "Slicer, install torch by the extension PyTorch and other packages by the module's own button or "
                "slicer.util.pip_install."
            )


def create_strategy(
    name: str, database: TumorDatabase, /, *, progress: Progress = no_progress, **options: object
) -> Strategy:
    """Make the strategy of that name for a database.

    Parameters
    ----------
    name : str
        One of `strategy_names()`.
    database : TumorDatabase
    progress : Progress
        Reports what the strategy prepares of the database, where it does.
    **options
        The strategy's, as `parse_strategy_options` takes them.

    Raises
    ------
    InputError
        When there is no such strategy, or an option is not one of its.
    MissingDependencyError
        When the strategy or an option needs a package that is not installed.
    """
    info = strategy_info(name)
    arguments: dict[str, object] = dict(parse_strategy_options(name, options))
    require_packages(name)
    if name not in _CLASSES:
        importlib.import_module(info.module)
    if info.prepares:
        arguments["progress"] = progress
    return _CLASSES[name](database, **arguments)
