"""What the tumours of a run have in common."""

from __future__ import annotations

from dataclasses import dataclass

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.method import Method
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.geometry.transforms import SpaceMap
from TumorQueryLib.strategies import Strategy


@dataclass(frozen=True, eq=False)
class Setting:
    """What all tumours of a run have in common.

    Parameters
    ----------
    anatomy : Atlas
        Where the made-up tumours grow.
    atlas : Atlas
        The database's.
    database : TumorDatabase
    engine : Strategy
        Ready to query the database.
    method : Method
        Of the pipeline; a study varies where and from what it refines.
    between : SpaceMap, optional
        Of the anatomy's own T1 to the atlas; after the true map it is the registration without tumour, noise and
        tilt (two anatomies have no map free of error).
    """

    anatomy: Atlas
    atlas: Atlas
    database: TumorDatabase
    engine: Strategy
    method: Method
    between: SpaceMap | None = None

    @property
    def thresholds(self) -> tuple[float, float]:
        """The database's, of core and whole tumour."""
        return self.database.threshold_core, self.database.threshold_whole


@dataclass(frozen=True)
class Conditions:
    """How the made-up patients of a run are made.

    Parameters
    ----------
    random_seed : int
        Of the tumours, and with a tumour's number added of its head.
    mass_effect : bool
        Push the tissue outward around the tumour.
    outline_error_mm : float
        Standard deviation of the error with which the outlines that the pipeline sees are drawn; 0 is exact.
    """

    random_seed: int = 0
    mass_effect: bool = False
    outline_error_mm: float = 0.0

    def in_words(self, count: int) -> str:
        """A sentence for above a table."""
        pushed = "with" if self.mass_effect else "without"
        drawn = f"with an error of {self.outline_error_mm:g} mm (SD)" if self.outline_error_mm else "exact"
        return (
            f"{count} made-up tumours of known truth, random seed {self.random_seed}, {pushed} mass effect, "
            f"outlines {drawn}."
        )
