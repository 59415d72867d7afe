"""The rows of the study of the starts as a summary and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from TumorQueryLib.studies.known_truth.tables import conditions_in_words, table_lines

TITLES = {"all": "matches and centre", "matches": "matches alone", "centre": "centre alone"}
MEANS = ("dice_core", "dice_whole", "dice_sum", "mae_near", "seconds", "solves", "seconds_to_reach", "solves_to_reach")


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the rows of all tumours come to, by kind of patient and of starts.

    Parameters
    ----------
    rows : sequence of dict
        Of `StartsStudy.measure`, each with its `tumour`.

    Returns
    -------
    list of dict
        `kind`, `starts`, `tumours` (their number) and means over them (`mae_near` None without a truth);
        `lowest_change`: the lowest difference of a tumour's Dice sum to that from all starts.
    """
    from_all = {row["tumour"]: row["dice_sum"] for row in rows if row["starts"] == "all"}
    summary = []
    for kind, starts in dict.fromkeys((row["kind"], row["starts"]) for row in rows):
        chosen = [row for row in rows if (row["kind"], row["starts"]) == (kind, starts)]
        means = {
            name: None if chosen[0][name] is None else float(np.mean([row[name] for row in chosen])) for name in MEANS
        }
        lowest = min(row["dice_sum"] - from_all[row["tumour"]] for row in chosen)
        summary.append({"kind": kind, "starts": starts, "tumours": len(chosen), **means, "lowest_change": lowest})
    return summary


def as_markdown(result: Mapping[str, Any]) -> str:
    """The conditions and the summary as a Markdown table."""
    header = ["tumours", "started from", "Dice core", "whole", "sum", "lowest change of a sum", "MAE 20 mm", "s"]
    header += ["solves", "s to the final score", "solves to it"]
    rows = []
    for row in result["summary"]:
        mae = "-" if row["mae_near"] is None else f"{row['mae_near']:.4f}"
        cells = [f"{row['tumours']} {'made up' if row['kind'] == 'made up' else 'patients'}", TITLES[row["starts"]]]
        cells += [f"{row[name]:.3f}" for name in ("dice_core", "dice_whole", "dice_sum")]
        cells += [f"{row['lowest_change']:+.3f}", mae, f"{row['seconds']:.0f}", f"{row['solves']:.0f}"]
        cells += [f"{row['seconds_to_reach']:.0f}", f"{row['solves_to_reach']:.0f}"]
        rows.append(cells)
    note = "Seconds to the final score: a search's own, shared out evenly over its solves."
    return "\n".join([_conditions(result), "", *table_lines(header, rows), "", note])


def _conditions(result: Mapping[str, Any]) -> str:
    made_up = sum(row["tumours"] for row in result["summary"] if (row["kind"], row["starts"]) == ("made up", "all"))
    return conditions_in_words({**result, "count": made_up})
