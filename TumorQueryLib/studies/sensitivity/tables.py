"""The rows of the study of the sensitivity as a summary and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from TumorQueryLib.studies.known_truth.tables import conditions_in_words, table_lines

#: The figures that are compared with those under the model's own assumption.
COMPARED = ("length_mm", "rho_t", "above_level_ml")


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the rows of all tumours come to, by kind of patient and assumption.

    Parameters
    ----------
    rows : sequence of dict
        Of `SensitivityStudy.measure`, each with its `tumour`; those of a tumour begin with the model's own assumption.

    Returns
    -------
    list of dict
        `kind`, `assumption`, `tumours` (their number), mean `dice_sum`; of each of `COMPARED` the median
        `<name>_ratio` to the figure under the model's own assumption, `<name>_ratio_lowest` and `_highest`;
        `length_error`, the median of |length / true - 1| (None without a truth).
    """
    own: dict[Any, Mapping[str, Any]] = {}
    for row in rows:
        own.setdefault(row["tumour"], row)
    summary = []
    for kind, assumption in dict.fromkeys((row["kind"], row["assumption"]) for row in rows):
        chosen = [row for row in rows if (row["kind"], row["assumption"]) == (kind, assumption)]
        figures: dict[str, float | None] = {"dice_sum": float(np.mean([row["dice_sum"] for row in chosen]))}
        for name in COMPARED:
            ratios = [row[name] / own[row["tumour"]][name] for row in chosen if own[row["tumour"]][name] > 0]
            figures[f"{name}_ratio"] = float(np.median(ratios)) if ratios else None
            figures[f"{name}_ratio_lowest"] = min(ratios, default=None)
            figures[f"{name}_ratio_highest"] = max(ratios, default=None)
        known = [row for row in chosen if row["true_length_mm"] is not None]
        errors = [abs(row["length_mm"] / row["true_length_mm"] - 1) for row in known]
        figures["length_error"] = float(np.median(errors)) if errors else None
        summary.append({"kind": kind, "assumption": assumption, "tumours": len(chosen), **figures})
    return summary


def as_markdown(result: Mapping[str, Any]) -> str:
    """The conditions, the summary, and the figures of every tumour under each assumption, as Markdown."""
    made_up = len({row["tumour"] for row in result["cases"] if row["kind"] == "made up"})
    level = result["cases"][0]["level"]
    header = [
        "tumours",
        "with",
        "length, to the model's own",
        "rho T",
        f"ml above {level:g}",
        "Dice sum",
        "length error",
    ]
    lines = table_lines(header, [_summary_cells(row) for row in result["summary"]])
    assumptions = list(dict.fromkeys(row["assumption"] for row in result["cases"]))
    each = [
        "tumour",
        *(f"{words}: length, mm; ml above {level:g}; whole, ml; Dice sum" for words in assumptions),
        "true",
    ]
    return "\n".join(
        [
            conditions_in_words({**result, "count": made_up}),
            "",
            "Ratios are medians over the tumours, with the lowest and the highest. No assumption is fitted, and a "
            "higher Dice sum does not make one the true one.",
            "",
            *lines,
            "",
            *table_lines(each, _tumour_cells(result["cases"])),
        ]
    )


def _summary_cells(row: Mapping[str, Any]) -> list[str]:
    cells = [f"{row['tumours']} {'made up' if row['kind'] == 'made up' else 'patients'}", row["assumption"]]
    for name in COMPARED:
        middle, low, high = (row[f"{name}_ratio{end}"] for end in ("", "_lowest", "_highest"))
        cells.append("-" if middle is None else f"{middle:.2f} ({low:.2f} to {high:.2f})")
    error = "-" if row["length_error"] is None else f"{100 * row['length_error']:.0f} %"
    return [*cells, f"{row['dice_sum']:.3f}", error]


def _tumour_cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    cells: dict[Any, list[str]] = {}
    for row in rows:
        lengths = " and ".join(
            f"{row[name]:.2f}" for name in ("length_mm", "second_length_mm") if row[name] is not None
        )
        figures = f"{lengths}; {row['above_level_ml']:.0f}; {row['whole_ml']:.1f}; {row['dice_sum']:.3f}"
        cells.setdefault(row["tumour"], []).append(figures)
    true = {row["tumour"]: row["true_length_mm"] for row in rows}
    ends = {tumour: "-" if length is None else f"{length:.2f}" for tumour, length in true.items()}
    return [[str(tumour), *figures, ends[tumour]] for tumour, figures in cells.items()]
