"""The rows of the experiment as a summary, a table, a CSV file and a plot."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from TumorQueryLib.studies.cross_anatomy.errors import LEVELS


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means of the errors and Dice, medians of |ratio - 1| and seed error, by variant and mode."""
    summary = []
    for variant, mode in dict.fromkeys((row["variant"], row["mode"]) for row in rows):
        chosen = [row for row in rows if (row["variant"], row["mode"]) == (variant, mode)]

        def values(name: str, chosen: list[dict[str, Any]] = chosen) -> NDArray[np.float64]:
            return np.array([row[name] for row in chosen])

        means = ("mae_brain", "mae_near", *(f"dice_{level}" for level in LEVELS), "seconds")
        ratios = ("length_ratio", "rho_t_ratio", "volume_whole_ratio", "volume_core_ratio")
        summary.append(
            {
                "variant": variant,
                "mode": mode,
                **{name: float(values(name).mean()) for name in means},
                "seed_error_mm": float(np.median(values("seed_error_mm"))),
                **{f"{name}_error": float(np.median(np.abs(values(name) - 1))) for name in ratios},
            }
        )
    return summary


def as_markdown(result: dict[str, Any]) -> str:
    """The summary as a Markdown table."""
    header = (
        "| variant | refine | MAE brain | MAE 20 mm | "
        + " | ".join(f"Dice {level}" for level in LEVELS)
        + " | seed mm | length | rho T | whole ml | core ml | s |"
    )
    lines = [header, "|" + "---|" * (header.count("|") - 1)]
    for row in result["summary"]:
        cells = [row["variant"], row["mode"], f"{row['mae_brain']:.4f}", f"{row['mae_near']:.4f}"]
        cells += [f"{row[f'dice_{level}']:.3f}" for level in LEVELS]
        cells += [f"{row['seed_error_mm']:.1f}"]
        cells += [
            f"{100 * row[f'{name}_error']:.0f} %"
            for name in ("length_ratio", "rho_t_ratio", "volume_whole_ratio", "volume_core_ratio")
        ]
        lines.append("| " + " | ".join([*cells, f"{row['seconds']:.0f}"]) + " |")
    return "\n".join(lines)


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the rows as CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
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
