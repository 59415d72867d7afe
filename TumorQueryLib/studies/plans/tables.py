"""The rows of the study of the plans as a summary and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from TumorQueryLib.studies.known_truth.run import SAMPLE
from TumorQueryLib.studies.known_truth.tables import (
    conditions_in_words,
    difference_in_words,
    mean_difference,
    share_in_words,
    share_of,
    table_lines,
)
from TumorQueryLib.studies.plans.coverage import CHOICES, PROBABLE, STANDARD, TRUTH

#: The plans that the others are compared with, tumour by tumour.
REFERENCES = (STANDARD, "refined")
TITLES = {
    STANDARD: f"core + {CHOICES.margin:g} mm",
    "match": "match, same volume",
    "refined": "refined, same volume",
    "assimilated": "assimilated, same volume",
    PROBABLE: f"assimilated, {100 * CHOICES.share:g} % of the cells with {100 * CHOICES.probability:g} %",
    TRUTH: "true density, same volume",
}


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the rows of the made-up tumours come to, by plan; the bundled sample is not among them.

    Parameters
    ----------
    rows : sequence of dict
        Of `coverage.cells_outside`, each with its `tumour`.

    Returns
    -------
    list of dict
        `plan`, `tumours` (their number); means of `volume_ml`, `core_outside` and `dice_to_standard`; of `true_outside`
        the mean, `_median` and `_highest`; `held`: in how many tumours at most 5 % of the true cells lie outside;
        `told`: in how many the share outside lies between its modelled bounds (None without them); and for each of
        `REFERENCES` `to_<plan>`: the mean of the paired differences of `true_outside` with its bootstrap interval, and
        `better_than_<plan>`: in how many tumours it is the lower one (None for that plan itself).
    """
    made_up = [row for row in rows if row["tumour"] != SAMPLE]
    outside = {(row["tumour"], row["plan"]): row["true_outside"] for row in made_up}
    summary = []
    for name in [title for title in TITLES if any(row["plan"] == title for row in made_up)]:
        chosen = [row for row in made_up if row["plan"] == name]
        shares = np.array([row["true_outside"] for row in chosen])
        figures: dict[str, Any] = {
            **{key: float(np.mean([row[key] for row in chosen])) for key in ("volume_ml", "core_outside")},
            "dice_to_standard": float(np.mean([row["dice_to_standard"] for row in chosen])),
            "true_outside": float(shares.mean()),
            "true_outside_median": float(np.median(shares)),
            "true_outside_highest": float(shares.max()),
            "held": share_of([bool(share <= 1 - CHOICES.share) for share in shares]),
            "told": share_of(
                [
                    bool(row["modelled_low"] <= row["true_outside"] <= row["modelled_high"])
                    for row in chosen
                    if row["modelled_low"] is not None
                ]
            ),
        }
        for reference in REFERENCES:
            pairs = [
                (row["true_outside"], outside[row["tumour"], reference])
                for row in chosen
                if (row["tumour"], reference) in outside and reference != name
            ]
            figures[f"to_{reference}"] = mean_difference([one - other for one, other in pairs]) if pairs else None
            figures[f"better_than_{reference}"] = share_of([one < other for one, other in pairs])
        summary.append({"plan": name, "tumours": len(chosen), **figures})
    return summary


def by_tumour(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each tumour, short enough to keep: volumes (ml) and shares outside, rounded.

    Returns
    -------
    list of dict
        `tumour`, `standard_ml`, `probable_ml`, `<plan>_outside` of the true cells, and `<plan>_low` and `_high`, the
        modelled bounds of the share outside the assimilated and the probable plan; None where there is none.
    """
    found = {(row["tumour"], row["plan"]): row for row in rows}
    table = []
    for tumour in dict.fromkeys(row["tumour"] for row in rows):
        plans = {name: found[tumour, name] for name in TITLES if (tumour, name) in found}

        def figure(name: str, key: str, digits: int, plans: Mapping[str, Any] = plans) -> float | None:
            value = plans[name][key] if name in plans else None
            return None if value is None else round(value, digits)

        one = {"tumour": tumour, **{f"{name}_ml": figure(name, "volume_ml", 1) for name in (STANDARD, PROBABLE)}}
        one |= {f"{name.replace(' ', '_')}_outside": figure(name, "true_outside", 5) for name in TITLES}
        one |= {
            f"{name}_{end}": figure(name, f"modelled_{end}", 5)
            for name in ("assimilated", PROBABLE)
            for end in ("low", "high")
        }
        table.append(one)
    return table


def as_markdown(result: Mapping[str, Any]) -> str:
    """The conditions, the summary, and the bundled sample where it was looked at, as Markdown."""
    header = ["plan", "n", "ml", "true cells outside, %: mean", "median", "highest"]
    for reference in REFERENCES:
        header += [f"mean difference to {TITLES[reference]}, points", "fewer outside"]
    header += ["95 % held", "in its interval", "core outside, %"]
    made_up = sum(row["tumours"] for row in result["summary"] if row["plan"] == STANDARD)
    lines = [
        conditions_in_words({**result, "count": made_up}),
        "Shares are of the true tumour cells; differences are paired, with the 95 % interval of a bootstrap over "
        "tumours.",
        "",
        *table_lines(header, [_cells(row) for row in result["summary"]]),
    ]
    sample = [row for row in result["cases"] if row["tumour"] == SAMPLE]
    if sample:
        titles = ["plan", "ml", "true cells outside, %", "by the density itself, %", "Dice to the standard plan"]
        cells = [
            [
                TITLES[row["plan"]],
                f"{row['volume_ml']:.0f}",
                _percent(row["true_outside"]),
                _modelled(row),
                f"{row['dice_to_standard']:.3f}",
            ]
            for row in sample
        ]
        lines += ["", "The bundled sample case:", "", *table_lines(titles, cells)]
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    cells = [TITLES[row["plan"]], str(row["tumours"]), f"{row['volume_ml']:.0f}"]
    cells += [_percent(row[f"true_outside{end}"]) for end in ("", "_median", "_highest")]
    for reference in REFERENCES:
        cells += [difference_in_words(row[f"to_{reference}"], 100), share_in_words(row[f"better_than_{reference}"])]
    return [*cells, share_in_words(row["held"]), share_in_words(row["told"]), _percent(row["core_outside"])]


def _modelled(row: Mapping[str, Any]) -> str:
    if row["plan"] == TRUTH:
        return "-"
    bounds = (row["modelled_low"], row["modelled_high"])
    sure = "" if None in bounds else f" (90 %: {_percent(bounds[0])} to {_percent(bounds[1])})"
    return _percent(row["modelled_outside"]) + sure


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
