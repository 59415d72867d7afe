"""plan.png: both plans over the anatomy in three planes, and the figures of all guidelines beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.anatomy.anatomy import CSF, GREY_MATTER, WHITE_MATTER
from TumorQueryLib.base.plan_choices import GUIDELINES
from TumorQueryLib.geometry.grid import Volume, resample, resample_mask
from TumorQueryLib.results.report import (
    NORMAL_AXIS,
    ORIENTATION_LETTERS,
    TEXT,
    WARNING_TEXT,
    Scene,
    display_grid,
    draw_plane,
    grey_window,
    outline,
    plane_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from TumorQueryLib.results.files import SavedResult
    from TumorQueryLib.results.plan import Plan, Plans
    from TumorQueryLib.results.result import Result

COLOURS = {"standard": "#facc15", "model": "#f472b6", "probable": "#a78bfa"}
NAMES = {"standard": "standard plan", "model": "the model's plan", "probable": "plan of the asked probability"}
#: Grey values of a map of tissues, where the image itself is not at hand.
TISSUE_GREYS = {CSF: 0.15, GREY_MATTER: 0.5, WHITE_MATTER: 0.75}
WIDTH, HEIGHT = 17.0, 10.0  # inches


def write_plan_picture(plans: Plans, result: Result | SavedResult, image: Volume | None, path: Path) -> None:
    """Draw the plans of a result into a PNG file.

    Parameters
    ----------
    plans : Plans
    result : Result or SavedResult
        That the plans were made of.
    image : Volume, optional
        The T1Gd image to draw on; without one the map of tissues takes its place.
    path : path
    """
    draw_plans(plans, result, image).savefig(path, format="png", facecolor="black")


def draw_plans(plans: Plans, result: Result | SavedResult, image: Volume | None) -> Figure:
    """The picture as a figure of its own canvas (see `write_plan_picture`)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scene = _scene(result, image)
    masks = {name: resample_mask(mask, scene.grid).array for name, mask in plans.masks.items()}
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    figure.text(0.01, 0.965, "TumorQuery: plans to compare", fontsize=17, weight="bold", color="white", va="center")
    caution = "Research software, not a medical device. Patient's right is on the viewer's left."
    figure.text(0.99, 0.965, caution, fontsize=11, color=TEXT, ha="right", va="center")
    rows = figure.add_gridspec(
        2, 1, height_ratios=(1.0, 0.86), left=0.01, right=0.99, top=0.915, bottom=0.03, hspace=0.06
    )
    planes = rows[0].subgridspec(1, 3, wspace=0.02)
    for column, plane in enumerate(ORIENTATION_LETTERS):
        axes, index = figure.add_subplot(planes[0, column]), scene.centre[NORMAL_AXIS[plane]]
        draw_plane(axes, scene, "T1Gd", plane, index)
        for name, mask in masks.items():
            outline(axes, plane_of(mask, plane, index).astype(np.float32), 0.5, COLOURS[name], "-")
        axes.set_title(plane, color=TEXT, fontsize=11, pad=3)
    below = rows[1].subgridspec(1, 2, width_ratios=(1.0, 0.9), wspace=0.03)
    _draw_table(figure.add_subplot(below[0]), plans)
    _draw_words(figure.add_subplot(below[1]), plans, list(masks), scene.thresholds)
    return figure


def _scene(result: Result | SavedResult, image: Volume | None) -> Scene:
    """What lies below the outlines, on one display grid."""
    tissue, segmentation = result.tissue, result.segmentation
    if image is None:
        greys = np.zeros(tissue.grid.shape, np.float32)
        for label, grey in TISSUE_GREYS.items():
            greys[tissue.array == label] = grey
        image = Volume(greys, tissue.grid)
    brain = Volume((tissue.array > 0).astype(np.float32), tissue.grid)
    grid = display_grid(brain)
    outside = float(np.percentile(image.array, 0.5))
    shown = resample(Volume(image.array.astype(np.float32), image.grid), grid, outside=outside).array
    observed: dict[str, NDArray[np.bool_]] = {
        "core": resample_mask(Volume(segmentation.array == 1, segmentation.grid), grid).array,
        "whole": resample_mask(Volume(segmentation.array > 0, segmentation.grid), grid).array,
    }
    return Scene(
        grid=grid,
        images={"T1Gd": shown},
        windows={"T1Gd": grey_window(shown)},
        density=resample(result.density, grid).array,
        observed=observed,
        thresholds=dict(zip(("core", "whole"), result.thresholds)),
    )


def _draw_table(axes: Axes, plans: Plans) -> None:
    """The figures of both plans and of all guidelines."""
    axes.set_axis_off()
    named: list[tuple[str, Plan]] = [(NAMES["standard"], plans.standard), (NAMES["model"], plans.model)]
    if plans.probable is not None:
        share, probability = plans.choices.share, plans.choices.probability
        named.append((f"{100 * share:g} % of cells, with {100 * probability:g} %", plans.probable))
    named += [(GUIDELINES[name].title, one) for name, one in plans.guidelines.items()]
    lines = [f"{'':<32}{'ml':>6}{'white':>7}{'grey':>7}{'CSF':>6}  cells outside (5 to 95 %)", ""]
    for title, one in named:
        tissues = one.tissues_ml
        band = one.cells_outside_band
        sure = "" if band is None else f"  ({100 * band[0]:.1f} to {100 * band[1]:.1f})"
        lines.append(
            f"{title:<32}{one.volume_ml:6.0f}{tissues['white_matter_ml']:7.0f}{tissues['grey_matter_ml']:7.0f}"
            f"{tissues['csf_ml']:6.0f}  {100 * one.cells_outside:.1f} %{sure}"
        )
    style: dict[str, Any] = {"color": TEXT, "fontsize": 11, "family": "monospace", "va": "top", "linespacing": 1.4}
    axes.text(0, 0.98, "\n".join(lines), **style)
    warned = [line for said in plans.warnings for line in textwrap.wrap(f"! {said}", 96)]
    axes.text(0, 0.0, "\n".join(warned), color=WARNING_TEXT, fontsize=10.5, va="bottom", linespacing=1.3)


def _draw_words(axes: Axes, plans: Plans, drawn: list[str], thresholds: Mapping[str, float]) -> None:
    """The legend, and the comparison in words."""
    from matplotlib.lines import Line2D

    axes.set_axis_off()
    handles = [Line2D([], [], color=COLOURS[name], label=NAMES[name]) for name in drawn]
    handles += [
        Line2D([], [], color="#38bdf8", label="segmented core"),
        Line2D([], [], color="#4ade80", label="segmented whole tumour"),
        Line2D(
            [], [], color="white", label=f"density {thresholds['core']:g} (solid), {thresholds['whole']:g} (dashed)"
        ),
    ]
    axes.legend(handles=handles, loc="upper left", ncols=2, frameon=False, labelcolor=TEXT, fontsize=10.5)
    lines = [line for said in plans.sentences() for line in (*textwrap.wrap(said, 88), "")]
    style: dict[str, Any] = {"fontsize": 10.5, "va": "top", "linespacing": 1.3}
    axes.text(0.01, 0.79, "\n".join(lines), color=TEXT, **style)
