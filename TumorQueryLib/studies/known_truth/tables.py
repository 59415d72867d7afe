"""What the tables of all studies of known truth have in common."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from TumorQueryLib.studies.known_truth.setting import Conditions
from TumorQueryLib.studies.strategies.summary import bootstrap_interval, share_with_interval


def share_of(held: Sequence[bool]) -> dict[str, float] | None:
    """How many of some are true: `hits`, `cases`, and per cent with Wilson's 95 % interval; None of none."""
    return {"hits": sum(held), "cases": len(held), **share_with_interval(sum(held), len(held))} if held else None


def share_in_words(share: Mapping[str, float] | None) -> str:
    """A share of `share_of` for a cell of a table: hits, cases and the interval."""
    return "-" if share is None else f"{share['hits']} of {share['cases']} [{share['low']:.0f}, {share['high']:.0f} %]"


def mean_difference(differences: Sequence[float]) -> dict[str, float | None]:
    """The mean of paired differences, with the 95 % interval of a bootstrap over the pairs (percentiles).

    Returns
    -------
    dict
        `value`, and `low` and `high`, which are None for a single pair.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        return {"value": float(values.mean()), "low": None, "high": None}
    low, high = bootstrap_interval(values, 0)
    return {"value": float(values.mean()), "low": low, "high": high}


def difference_in_words(difference: Mapping[str, float | None] | None, scale: float = 1.0) -> str:
    """A difference of `mean_difference` for a cell of a table, times `scale`."""
    if difference is None:
        return "-"
    value, low, high = (None if end is None else f"{scale * end:+.2f}" for end in difference.values())
    return f"{value}" if low is None else f"{value} [{low}, {high}]"


def conditions_in_words(result: Mapping[str, Any]) -> str:
    """A run's conditions, and which tumours could not be measured, as sentences for above a table."""
    conditions = Conditions(result["random_seed"], result["mass_effect"], result["outline_error_mm"])
    left_out = [f" Left out: {name} ({reason})" for name, reason in result["left_out"].items()]
    return conditions.in_words(result["count"]) + "".join(left_out)


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the rows as CSV, numbers to five digits."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(
            {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()} for row in rows
        )
