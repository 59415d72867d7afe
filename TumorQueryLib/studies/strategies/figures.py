"""Figures 2 and 3, the Dice of the best matches, and Figure 4, densities on images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.geometry.grid import Volume, resample, resample_mask
from TumorQueryLib.growth import simulate
from TumorQueryLib.results.report import display_grid, plane_of
from TumorQueryLib.strategies import Match
from TumorQueryLib.studies.queries import Case


def dice_figure(matches: Sequence[Match], title: str) -> Figure:
    """Figures 2 and 3: Dice of the exact best match, each row sorted on its own."""
    figure = Figure(figsize=(9, 7), dpi=120, layout="constrained")
    rows = (
        ("T1Gd", [match.dice_core for match in matches], 1.0, "#38bdf8"),
        ("FLAIR", [match.dice_whole for match in matches], 1.0, "#4ade80"),
        ("T1Gd + FLAIR", [match.dice_sum for match in matches], 2.0, "#a78bfa"),
    )
    for number, (name, values, limit, colour) in enumerate(rows):
        axes = figure.add_subplot(3, 1, number + 1)
        ordered = np.sort(values)[::-1]
        axes.bar(np.arange(1, len(ordered) + 1), ordered, width=0.9 if len(ordered) < 100 else 1.0, color=colour)
        axes.axhline(ordered.mean(), color="black", linewidth=0.8, linestyle="--")
        axes.set(ylim=(0, limit), xlim=(0.4, len(ordered) + 0.6), ylabel="Dice" if limit == 1 else "sum of Dice")
        axes.set_title(f"{name}: mean {ordered.mean():.3f}", fontsize=10)
    axes.set_xlabel(f"{len(matches):,} {title}, sorted")
    figure.suptitle(f"Best match by the exact query, {title}")
    return figure


def density_figure(shown: Sequence[tuple[Case, Match]], database: TumorDatabase, atlas: Atlas) -> Figure:
    """Figure 4: the best match's density, on the patient's image where there is one, else on the atlas."""
    figure = Figure(figsize=(2.6 * len(shown), 5.6), dpi=120, facecolor="black", layout="constrained")
    for column, (case, best) in enumerate(shown):
        grown = simulate(database.parameters(best.entry), atlas, solver_version=database.solver_version)
        density = Volume(grown, atlas.grid)
        arrays = _on_display_grid(case, density, atlas)
        index = int(np.argmax(arrays["whole"].sum(axis=(0, 1))))
        slice_of = {name: plane_of(array, "axial", index) for name, array in arrays.items()}
        white = float(np.percentile(arrays["image"][arrays["image"] > 0], 99.5))
        for row in range(2):
            axes = figure.add_subplot(2, len(shown), row * len(shown) + column + 1)
            axes.imshow(slice_of["image"], cmap="gray", vmax=white)
            if row:
                seen = np.ma.masked_less(slice_of["density"], 0.01)
                shades = axes.imshow(seen, cmap="inferno", vmin=0, vmax=1, alpha=0.75)
            for mask, colour in (("whole", "#4ade80"), ("core", "#38bdf8")):
                if slice_of[mask].any():
                    axes.contour(slice_of[mask], levels=[0.5], colors=colour, linewidths=0.8)
            axes.set_axis_off()
            if not row:
                axes.set_title(f"{case.name}\nDice {best.dice_sum:.2f}", color="white", fontsize=8)
    bar = figure.colorbar(shades, ax=figure.axes, shrink=0.5, label="tumour cell density")
    bar.ax.yaxis.label.set_color("white")
    bar.ax.tick_params(colors="white")
    return figure


def _on_display_grid(case: Case, density: Volume, atlas: Atlas) -> dict[str, NDArray[Any]]:
    """Image, density, core and whole on one grid along the RAS axes."""
    if case.patient is None or case.registration is None:
        image = resample(atlas.t1, density.grid).array
        return {"image": image, "density": density.array, "core": case.masks.core, "whole": case.masks.whole}
    patient = case.patient
    grid = display_grid(patient.t1gd)
    return {
        "image": resample(patient.t1gd, grid).array,
        "density": case.registration.in_patient(density, grid).array,
        "core": resample_mask(patient.core, grid).array,
        "whole": resample_mask(patient.whole, grid).array,
    }


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    FigureCanvasAgg(figure)
    figure.savefig(path, facecolor=figure.get_facecolor(), metadata={"Software": "TumorQuery"})
