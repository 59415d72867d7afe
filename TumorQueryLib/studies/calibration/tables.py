"""The rows of the calibration as a summary, a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from TumorQueryLib.studies.known_truth.tables import conditions_in_words, share_in_words, share_of, table_lines

#: A tumour's 90 % band is called calibrated where it holds the truth in so many of its voxels.
CALIBRATED, CALIBRATED_FROM, CALIBRATED_TO = 0.9, 0.80, 0.97
PARTS = {"": "within 20 mm", "_inside": "inside", "_outside": "outside"}
INTERVALS = {"length": "infiltration length", "rho_t": "rho T"}


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the rows of all tumours come to, by confidence.

    Parameters
    ----------
    rows : sequence of dict
        Of `coverage.coverage_of`.

    Returns
    -------
    list of dict
        Means over the tumours of the bands' coverage and width, and the lowest coverage of a tumour; `calibrated`: in
        how many tumours the coverage of the 90 % band is in [0.80, 0.97] (None at the others); `<name>_held`: in how
        many the interval of infiltration length and rho T holds the truth, and the median half-width. A share has
        `hits`, `cases`, and per cent with its 95 % interval by Wilson.
    """
    summary = []
    for confidence in dict.fromkeys(row["confidence"] for row in rows):
        chosen = [row for row in rows if row["confidence"] == confidence]
        means = [f"{name}{part}" for name in ("coverage", "width") for part in PARTS]
        coverages = [row["coverage"] for row in chosen]
        calibrated = [CALIBRATED_FROM <= value <= CALIBRATED_TO for value in coverages]
        summary.append(
            {
                "confidence": confidence,
                **{name: _mean([row[name] for row in chosen]) for name in (*means, "above", "below", "residual_rms")},
                "coverage_lowest": min(coverages),
                "calibrated": share_of(calibrated) if confidence == CALIBRATED else None,
                **{f"{name}_held": share_of([row[f"{name}_held"] for row in chosen]) for name in INTERVALS},
                **{
                    f"{name}_half_width": float(np.median([row[f"{name}_half_width"] for row in chosen]))
                    for name in INTERVALS
                },
            }
        )
    return summary


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def as_markdown(result: Mapping[str, Any]) -> str:
    """The conditions and the summary as a Markdown table."""
    header = ["promised", "held by voxel, within 20 mm", "inside", "outside", "lowest of a tumour"]
    header += ["mean width", "inside", "outside", "truth above", "below"]
    header += ["length held", "half-width", "rho T held", "half-width"]
    rows = []
    for row in result["summary"]:
        cells = [f"{100 * row['confidence']:.0f} %"]
        cells += [_number(row[f"coverage{part}"]) for part in PARTS]
        cells += [_number(row["coverage_lowest"])]
        cells += [_number(row[f"width{part}"]) for part in PARTS]
        cells += [_number(row["above"]), _number(row["below"])]
        for name in INTERVALS:
            cells += [share_in_words(row[f"{name}_held"]), f"{100 * row[f'{name}_half_width']:.0f} %"]
        rows.append(cells)
    lines = [conditions_in_words(result), "", *table_lines(header, rows)]
    for row in result["summary"]:
        if row["calibrated"] is not None:
            lines += [
                "",
                f"The {100 * row['confidence']:.0f} % band holds the truth in {100 * CALIBRATED_FROM:.0f} to "
                f"{100 * CALIBRATED_TO:.0f} % of the voxels in {share_in_words(row['calibrated'])} tumours. "
                f"Mean residual on the outlines: {row['residual_rms']:.2f} log-odds.",
            ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Reliability (promised against held, by voxel and by tumour), and width against coverage of each tumour."""
    summary, rows = result["summary"], result["cases"]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    reliability, widths = figure.subplots(1, 2)
    promised = [row["confidence"] for row in summary]
    reliability.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for part, title in PARTS.items():
        held = [np.nan if row[f"coverage{part}"] is None else row[f"coverage{part}"] for row in summary]
        reliability.plot(promised, held, marker="o", label=f"voxels {title}")
    for number, (name, title) in enumerate(INTERVALS.items()):
        shares = [row[f"{name}_held"] for row in summary]
        middle = np.array([share["value"] for share in shares]) / 100
        ends = np.array([[share["low"], share["high"]] for share in shares]).T / 100
        # Apart by a hair, so that the bars of two shares do not cover each other.
        places = np.array(promised) + 0.008 * (number - 0.5)
        bars = np.maximum(np.abs(ends - middle), 0)
        reliability.errorbar(places, middle, bars, fmt="s", markersize=4, capsize=2, label=f"tumours, {title}")
    reliability.set(xlabel="promised", ylabel="held", xlim=(0.4, 1.02), ylim=(0, 1.02))
    reliability.set_title(f"{result['count']} tumours, random seed {result['random_seed']}", fontsize="small")
    reliability.legend(fontsize="x-small")
    widths.axhspan(CALIBRATED_FROM, CALIBRATED_TO, color="0.92")
    chosen = [row for row in rows if row["confidence"] == CALIBRATED]
    dots = widths.scatter(
        [row["width"] for row in chosen], [row["coverage"] for row in chosen], c=[row["residual_rms"] for row in chosen]
    )
    figure.colorbar(dots, ax=widths, label="residual on the outlines (log-odds)")
    widths.set(xlabel="mean width of the 90 % band", ylabel="share of voxels held", ylim=(0, 1.02))
    widths.set_title("each tumour, within 20 mm", fontsize="small")
    figure.savefig(path, dpi=120)
