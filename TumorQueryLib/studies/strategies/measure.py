"""Queries by every strategy, and where each puts the entry that is best by exact Dice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.base.timing import Stopwatch
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.strategies import Match, Strategy, create_strategy, strategy_table
from TumorQueryLib.studies.queries import Case

#: Rows of the tables that are a strategy with options.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {"radiomics-standardised": ("radiomics", {"standardised": True})}
TOP = (1, 5, 15)
#: Matches that are put in the order of their exact Dice where a strategy is re-ranked.
RERANKED = 100


def default_rows() -> list[str]:
    """Names of the strategies that are measured unasked: all that are not exact, each before its variants."""
    return [
        row
        for name, info in strategy_table().items()
        if not info.exact
        for row in (name, *(variant for variant, (varied, _) in VARIANTS.items() if varied == name))
    ]


@dataclass(frozen=True)
class Rank:
    """Where a strategy put the entry that is best by exact Dice, for one case.

    Parameters
    ----------
    rank : int or None
        From 1, by the tie rule; None beyond the first 100.
    rank_in_favour : int or None
        The same if every tie, of exact Dice and of the strategy's score, were decided
        in the strategy's favour.
    seconds : float
        Wall time of the query.
    """

    rank: int | None
    rank_in_favour: int | None
    seconds: float


@dataclass(frozen=True, eq=False)
class Measured:
    """A case and how every strategy did on it.

    Parameters
    ----------
    name : str
    whole_ml : float
        Volume of the query's whole tumour.
    best : Match
        The best entry by exact Dice.
    ranks : dict of str to Rank
        By the strategies' names.
    """

    name: str
    whole_ml: float
    best: Match
    ranks: dict[str, Rank]


def create_engines(
    names: Sequence[str], database: TumorDatabase, *, progress: Progress = no_progress
) -> dict[str, Strategy]:
    """Strategies or `VARIANTS` by their names, ready to query the database."""
    engines: dict[str, Strategy] = {}
    for number, name in enumerate(names):
        report = part(progress, number / len(names), (number + 1) / len(names))
        report(0.0, f"Preparing {name}")
        strategy, options = VARIANTS.get(name, (name, {}))
        engines[name] = create_strategy(strategy, database, progress=report, **options)
    return engines


def measure(case: Case, engines: Mapping[str, Strategy]) -> Measured:
    """Query by every strategy; `engines` holds "direct", which the others are measured by."""
    with Stopwatch() as taken:
        exact = engines["direct"].query(case.masks, max(TOP))
    best = exact[0]
    equally_good = {match.entry for match in exact if match.dice_sum == best.dice_sum}
    ranks = {"direct": Rank(1, 1, taken.wall)}
    for name, engine in engines.items():
        if name != "direct":
            with Stopwatch() as taken:
                matches = engine.query(case.masks, RERANKED)
            ranks[name] = Rank(*rank_of(best.entry, equally_good, matches), taken.wall)
    return Measured(case.name, case.masks.volumes_ml()[1], best, ranks)


def rank_of(best: int, equally_good: set[int], matches: Sequence[Match]) -> tuple[int | None, int | None]:
    """Rank of the exact best entry among a strategy's matches, and the rank with every tie in its favour.

    Parameters
    ----------
    best : int
        The best entry by exact Dice; of equals the lowest.
    equally_good : set of int
        All entries of that Dice sum.
    matches : sequence of Match
        The strategy's, best first.

    Returns
    -------
    rank, rank_in_favour : int or None
        From 1; None where the entry is not among the matches.
    """
    rank = next((n for n, match in enumerate(matches, 1) if match.entry == best), None)
    scores = [match.score for match in matches]
    in_favour = next((1 + scores.index(m.score) for m in matches if m.entry in equally_good), None)
    return rank, in_favour
