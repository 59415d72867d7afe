"""The rows of the experiment as a summary, a table and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from TumorQueryLib.studies.cross_anatomy.errors import LEVELS
from TumorQueryLib.studies.known_truth.tables import conditions_in_words, share_in_words, share_of, table_lines

#: The row that the others are compared with: the refinement that `infer` makes by default.
REFERENCE = ("pipeline", "patient")
MAE = ("mae_brain", "mae_near", "mae_inside", "mae_outside")


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the rows of all tumours come to, by variant and mode.

    Parameters
    ----------
    rows : sequence of dict
        Of `CrossAnatomy.measure`, each with its `tumour`.

    Returns
    -------
    list of dict
        Means of the errors and Dice; medians of |ratio - 1| and of the seed's error; `better`: in how many tumours
        `mae_near` is below that of pipeline / patient (`hits` of `cases`, and the share in per cent with its 95 %
        interval by Wilson), None for that row itself and where it was not measured.
    """
    reference = {row["tumour"]: row["mae_near"] for row in rows if (row["variant"], row["mode"]) == REFERENCE}
    summary = []
    for variant, mode in dict.fromkeys((row["variant"], row["mode"]) for row in rows):
        chosen = [row for row in rows if (row["variant"], row["mode"]) == (variant, mode)]

        def values(name: str, chosen: list[dict[str, Any]] = chosen) -> NDArray[np.float64]:
            return np.array([row[name] for row in chosen])

        drawn = ("drawn_dice_core", "drawn_dice_whole")
        means = (*MAE, *(f"dice_{level}" for level in LEVELS), *drawn, "seconds")
        ratios = ("length_ratio", "rho_t_ratio", "volume_whole_ratio", "volume_core_ratio")
        summary.append(
            {
                "variant": variant,
                "mode": mode,
                **{name: float(values(name).mean()) for name in means},
                "seed_error_mm": float(np.median(values("seed_error_mm"))),
                **{f"{name}_error": float(np.median(np.abs(values(name) - 1))) for name in ratios},
                "better": None if (variant, mode) == REFERENCE else _better(chosen, reference),
            }
        )
    return summary


def _better(rows: Sequence[dict[str, Any]], reference: Mapping[Any, float]) -> dict[str, float] | None:
    return share_of([row["mae_near"] < reference[row["tumour"]] for row in rows if row["tumour"] in reference])


def as_markdown(result: Mapping[str, Any]) -> str:
    """The conditions and the summary as a Markdown table."""
    header = ["variant", "mode", "MAE brain", "MAE 20 mm", "inside", "outside", "better than patient"]
    header += [f"Dice {level}" for level in LEVELS]
    header += ["seed mm", "length", "rho T", "whole ml", "core ml", "s"]
    rows = []
    for row in result["summary"]:
        cells = [row["variant"], row["mode"], *(f"{row[name]:.4f}" for name in MAE), share_in_words(row["better"])]
        cells += [f"{row[f'dice_{level}']:.3f}" for level in LEVELS]
        cells += [f"{row['seed_error_mm']:.1f}"]
        cells += [
            f"{100 * row[f'{name}_error']:.0f} %"
            for name in ("length_ratio", "rho_t_ratio", "volume_whole_ratio", "volume_core_ratio")
        ]
        rows.append([*cells, f"{row['seconds']:.0f}"])
    first = result["summary"][0]
    core, whole = first["drawn_dice_core"], first["drawn_dice_whole"]
    drawn = f"Dice of the drawn to the true outlines: core {core:.3f}, whole tumour {whole:.3f}."
    return "\n".join([conditions_in_words(result), "", *table_lines(header, rows), "", drawn])


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Error near the tumour, seed error and length ratio of every tumour, by variant and mode."""
    groups = list(dict.fromkeys((row["variant"], row["mode"]) for row in rows))
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, (name, title) in zip(
        figure.subplots(1, 3),
        (
            ("mae_near", "mean |density error| within 20 mm"),
            ("seed_error_mm", "seed error (mm)"),
            ("length_ratio", "infiltration length, found / true"),
        ),
    ):
        values = [[row[name] for row in rows if (row["variant"], row["mode"]) == group] for group in groups]
        axes.boxplot(values)
        axes.set_xticklabels([f"{mode}\n{variant}" for variant, mode in groups], rotation=90, fontsize="x-small")
        axes.set_title(title, fontsize="small")
    figure.savefig(path, dpi=120)
