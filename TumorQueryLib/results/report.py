"""report.png: what a radiologist looks at first.

Three planes through the tumour and a lightbox, in the radiological orientation
that Slicer uses: the patient's right on the viewer's left, anterior on top of an
axial slice and on the left of a sagittal one.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.geometry.grid import Grid, Volume, resample, resample_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

    from TumorQueryLib.results.result import Result

DISPLAY_SPACING = 1.0
MARGIN = 4.0
SCALE_BAR = 50.0
ISOLINE_STYLES: dict[str, Literal["-", "--"]] = {"core": "-", "whole": "--"}
OBSERVED_COLOURS = {"whole": "#4ade80", "core": "#38bdf8"}
LIGHTBOX_SLICES = 8
TEXT = "#e5e7eb"
WARNING_TEXT = LETTERS = "#fde047"

FIGURE_WIDTH, FIGURE_HEIGHT = 17.0, 12.6  # inches, without warnings
#: Warnings stand below the pictures in columns; the page grows with them.
WARNING_COLUMNS = 2
WARNING_CHARACTERS = 98  # of a line
WARNING_LINE = 0.165  # inches
MOST_WARNINGS = 20

#: The array axis that each plane is cut across.
NORMAL_AXIS = {"axial": 2, "coronal": 1, "sagittal": 0}
#: Letters at the left, right, top and bottom of each plane.
ORIENTATION_LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}


def plane_of(array: NDArray, plane: str, index: int) -> NDArray:
    """A slice of an array on a RAS-aligned grid, as it is shown: rows from top, columns from the left.

    Parameters
    ----------
    array : ndarray, shape (i, j, k)
        i grows to the patient's right, j to anterior, k to superior.
    plane : {"axial", "coronal", "sagittal"}
    index : int
        Of the slice along k, j or i.
    """
    if plane == "axial":
        return array[::-1, ::-1, index].T
    if plane == "coronal":
        return array[::-1, index, ::-1].T
    if plane == "sagittal":
        return array[index, ::-1, ::-1].T
    raise ValueError(plane)


def display_grid(image: Volume) -> Grid:
    """A RAS-aligned grid of 1 mm around what is not background in an image."""
    background = np.median(image.array[[0, -1]][:, [0, -1]][:, :, [0, -1]])
    content = np.abs(image.array - background) > 0.02 * np.ptp(image.array)
    if not content.any():
        content[...] = True
    # Every other voxel is enough for a box, and a row of voxels more on each side makes up for it.
    points = image.grid.to_ras(2 * np.argwhere(content[::2, ::2, ::2]))
    return Grid.around(points, DISPLAY_SPACING, MARGIN + image.grid.spacing.max())


@dataclass(frozen=True, eq=False)
class Scene:
    """What is drawn, all of it on one display grid; arrays are indexed [i, j, k], isolines are at `thresholds`."""

    grid: Grid
    images: dict[str, NDArray[np.float32]]
    windows: dict[str, tuple[float, float]]
    density: NDArray[np.float32]
    observed: dict[str, NDArray[np.bool_]]
    thresholds: dict[str, float]

    @property
    def centre(self) -> tuple[int, int, int]:
        """The voxel whose planes are shown: the centre of the core, else of the whole tumour, else of the grid."""
        for name in ("core", "whole"):
            if self.observed[name].any():
                i, j, k = np.round(np.argwhere(self.observed[name]).mean(axis=0)).astype(int)
                return int(i), int(j), int(k)
        i, j, k = self.grid.shape
        return i // 2, j // 2, k // 2


def scene_of(result: Result) -> Scene:
    """Put images, density and segmentation of a result on one display grid."""
    patient = result.patient
    grid = display_grid(patient.t1gd)
    given = {"T1Gd": patient.t1gd, "FLAIR": patient.flair}
    images, windows = {}, {}
    for name, volume in given.items():
        if volume is not None:
            # Beyond its field of view an image shows its own background.
            outside = float(np.percentile(volume.array, 0.5))
            images[name] = resample(Volume(volume.array.astype(np.float32), volume.grid), grid, outside=outside).array
            windows[name] = grey_window(images[name])
    return Scene(
        grid=grid,
        images=images,
        windows=windows,
        density=resample(result.density, grid).array,
        observed={
            "core": resample_mask(patient.core, grid).array,
            "whole": resample_mask(patient.whole, grid).array,
        },
        thresholds=dict(zip(("core", "whole"), result.database.thresholds)),
    )


def grey_window(image: NDArray[np.float32]) -> tuple[float, float]:
    """Grey values shown as black and as white: those of the darkest and the brightest tissue."""
    sample = image.ravel()[:: max(1, image.size // 200_000)]
    values, counts = np.unique(sample, return_counts=True)
    background = values[counts.argmax()]
    tissue = sample[np.abs(sample - background) > 0.02 * np.ptp(sample)]
    low, high = np.percentile(tissue, (0.5, 99.7)) if tissue.size else (background, background)
    return float(low), float(max(high, low + 1e-6))


def write_report(result: Result, path: Path) -> None:
    """Draw the report of a result into a PNG file."""
    draw_report(result).savefig(path, format="png", facecolor="black")


def draw_report(result: Result) -> Figure:
    """The report as a figure of its own canvas: planes and figures, the lightbox, the warnings below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scene = scene_of(result)
    warnings = warning_columns(result.warnings)
    strip = WARNING_LINE * max(len(column) for column in warnings)
    height = FIGURE_HEIGHT + strip
    figure = Figure(figsize=(FIGURE_WIDTH, height), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    draw_heading(figure, 1 - 0.4 / height)
    rows = figure.add_gridspec(
        2,
        1,
        height_ratios=(1.0, 0.52),
        left=0.01,
        right=0.99,
        top=1 - 0.8 / height,
        bottom=(strip + 0.35) / height,
        hspace=0.09,
    )
    columns = rows[0].subgridspec(1, 2, width_ratios=(1.0, 0.36), wspace=0.04)
    draw_planes(figure, columns[0], scene)
    draw_figures(figure, columns[1], result)
    draw_lightbox(figure, rows[1], scene)
    draw_warnings(figure, warnings, (strip + 0.15) / height)
    return figure


def draw_heading(figure: Figure, y: float) -> None:
    """The title, and what the report is not, at a height of the page."""
    left: dict[str, Any] = {"fontsize": 17, "weight": "bold", "color": "white", "ha": "left"}
    right: dict[str, Any] = {"fontsize": 11, "color": TEXT, "ha": "right"}
    figure.text(0.01, y, "TumorQuery: tumour cell density", va="center", **left)
    caution = "Research software, not a medical device. Patient's right is on the viewer's left."
    figure.text(0.99, y, caution, va="center", **right)


def draw_planes(figure: Figure, place: SubplotSpec, scene: Scene) -> None:
    """The three planes through the tumour, a row for each image."""
    planes = place.subgridspec(len(scene.images), 3, wspace=0.02, hspace=0.08)
    for row, name in enumerate(scene.images):
        for column, plane in enumerate(ORIENTATION_LETTERS):
            axes = figure.add_subplot(planes[row, column])
            draw_plane(axes, scene, name, plane, scene.centre[NORMAL_AXIS[plane]])
            axes.set_title(f"{name}, {plane}", color=TEXT, fontsize=11, pad=3)


def draw_lightbox(figure: Figure, place: SubplotSpec, scene: Scene) -> None:
    """Axial slices through the tumour, without the density and with it."""
    lightbox = place.subgridspec(2, LIGHTBOX_SLICES, wspace=0.02, hspace=0.02)
    for column, index in enumerate(lightbox_indices(scene)):
        for row, overlaid in enumerate((False, True)):
            axes = figure.add_subplot(lightbox[row, column])
            draw_plane(axes, scene, "T1Gd", "axial", index, density=overlaid, letters="" if column else "RL")
            if not overlaid:
                z = scene.grid.to_ras((0, 0, index))[2]
                axes.set_title(f"S {z:.0f} mm" if z >= 0 else f"I {-z:.0f} mm", color=TEXT, fontsize=9, pad=2)


def draw_warnings(figure: Figure, columns: Sequence[Sequence[str]], y: float) -> None:
    """The columns of warnings, their top at a height of the page."""
    for number, lines in enumerate(columns):
        x = 0.01 + number * 0.98 / WARNING_COLUMNS
        style: dict[str, Any] = {"fontsize": 10, "family": "monospace", "color": WARNING_TEXT}
        figure.text(x, y, "\n".join(lines), va="top", linespacing=1.15, **style)


def lightbox_indices(scene: Scene) -> list[int]:
    """Axial slices spread evenly over the segmented and the predicted tumour."""
    shown = scene.observed["whole"] | (scene.density > scene.thresholds["whole"])
    slices = np.flatnonzero(shown.any(axis=(0, 1)))
    if slices.size == 0:
        slices = np.arange(scene.grid.shape[2])
    return [int(k) for k in np.round(np.linspace(slices[0], slices[-1], LIGHTBOX_SLICES + 2))[1:-1]]


def draw_plane(
    axes: Axes, scene: Scene, name: str, plane: str, index: int, *, density: bool = True, letters: str | None = None
) -> None:
    """Draw one slice: the image, the density over it, isolines and outlines, orientation and scale.

    `letters` stand at the left, right, top and bottom, as many as there are; with none there is no scale bar either.
    """
    low, high = scene.windows[name]
    axes.set_facecolor("black")
    axes.set_axis_off()
    background = plane_of(scene.images[name], plane, index)
    axes.imshow(background, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
    if density:
        values = plane_of(scene.density, plane, index)
        axes.imshow(density_colours(values), interpolation="nearest")
        for region, level in scene.thresholds.items():
            outline(axes, values, level, "white", ISOLINE_STYLES[region])
    for region, colour in OBSERVED_COLOURS.items():
        outline(axes, plane_of(scene.observed[region], plane, index).astype(np.float32), 0.5, colour, "-")
    rows, columns = background.shape
    # A margin of one slice thickness, so that contours at the border are not cut.
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    draw_orientation(axes, ORIENTATION_LETTERS[plane] if letters is None else letters, columns, rows)


def draw_orientation(axes: Axes, letters: str, columns: int, rows: int) -> None:
    """Letters at the left, right, top and bottom of a slice, and a scale bar; legible on bright tissue too."""
    from matplotlib.patheffects import withStroke

    if not letters:
        return
    edge = [withStroke(linewidth=2.5, foreground="black")]
    middle: dict[str, Any] = {"ha": "center", "path_effects": edge}
    for letter, (x, y) in zip(letters, ((0.02, 0.5), (0.98, 0.5), (0.5, 0.97), (0.5, 0.03))):
        place = axes.transAxes
        axes.text(x, y, letter, transform=place, color=LETTERS, fontsize=11, weight="bold", va="center", **middle)
    length = SCALE_BAR / DISPLAY_SPACING
    ends = [columns - 8 - length, columns - 8]
    axes.plot(ends, [rows - 5] * 2, color="white", linewidth=2.5, solid_capstyle="butt", path_effects=edge)
    text = f"{SCALE_BAR / 10:.0f} cm"
    axes.text(sum(ends) / 2, rows - 8, text, color="white", fontsize=9, va="bottom", **middle)


def density_colours(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """RGBA of a density: transparent where there are no cells, so that the anatomy stays visible."""
    import matplotlib

    colours = matplotlib.colormaps["inferno"](0.15 + 0.85 * np.clip(values, 0, 1))
    colours[..., 3] = 0.62 * np.clip(values / 0.25, 0, 1) ** 0.8
    return colours


def outline(axes: Axes, values: NDArray, level: float, colour: str, style: str) -> None:
    """A contour line, where the level is reached in this slice."""
    if values.min() < level < values.max():
        axes.contour(values, levels=[level], colors=[colour], linestyles=[style], linewidths=1.3)


def draw_figures(figure: Figure, place: SubplotSpec, result: Result) -> None:
    """The estimate in figures and the legend, right of the planes."""
    from matplotlib.colors import ListedColormap
    from matplotlib.lines import Line2D

    parts = place.subgridspec(3, 1, height_ratios=(1.0, 0.14, 0.05), hspace=0.12)
    axes = figure.add_subplot(parts[0])
    axes.set_axis_off()
    axes.text(
        0,
        1.0,
        "\n".join(figures_of(result)),
        color=TEXT,
        fontsize=11.5,
        family="monospace",
        va="top",
        linespacing=1.35,
    )
    legend = figure.add_subplot(parts[1])
    legend.set_axis_off()
    handles = [
        Line2D([], [], color=OBSERVED_COLOURS["core"], label="segmented core"),
        Line2D([], [], color=OBSERVED_COLOURS["whole"], label="segmented whole tumour"),
        *[
            Line2D([], [], color="white", linestyle=ISOLINE_STYLES[region], label=f"density {level:g}")
            for region, level in zip(("core", "whole"), result.database.thresholds)
        ],
    ]
    legend.legend(handles=handles, loc="center left", ncols=2, frameon=False, labelcolor=TEXT, fontsize=10.5)
    bar = figure.add_subplot(parts[2])
    ramp = density_colours(np.linspace(0, 1, 256, dtype=np.float32))
    # Over the grey of white matter, as the overlay is.
    opaque = ramp[:, :3] * ramp[:, 3:] + 0.35 * (1 - ramp[:, 3:])
    bar.imshow(np.linspace(0, 1, 256)[None], aspect="auto", extent=(0, 1, 0, 1), cmap=ListedColormap(opaque))
    bar.set_yticks([])
    bar.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    bar.tick_params(colors=TEXT, labelsize=10)
    bar.set_title("tumour cell density (fraction)", color=TEXT, fontsize=10.5, pad=3)


def figures_of(result: Result) -> list[str]:
    """The lines of text beside the pictures: the figures of the estimate that they show."""
    estimate, best = result.model, result.matches[0]
    fit, match = estimate.fit, result.estimates["match"]
    place = "the patient's anatomy" if estimate.anatomy.name == "patient" else "the atlas"
    lengths = ", ".join(f"{length:.2f}" for length in estimate.infiltration_lengths_mm)
    ages = ", ".join(f"{parameters.rho_t:.1f}" for parameters in estimate.parameters)
    shown = [f"Density shown     {estimate.name}, grown in", f"                  {place}"]
    if result.estimate is not estimate:
        shown = ["Density shown     assimilated to the outlines", f"Model             {estimate.name}, in {place}"]
    lines = [
        *shown,
        "Agreement with the segmentation",
        f"  Dice core       {fit.dice_core:.3f}",
        f"  Dice whole      {fit.dice_whole:.3f}",
        f"  sum             {fit.dice_sum:.3f} of 2",
    ]
    if estimate is not match:
        lines.append(f"  (best match     {match.fit.dice_sum:.3f})")
    lines += [
        f"  The modelled outlines agree {fit.quality}",
        "  with the segmentation.",
        "",
        "Volume, ml        segmented  predicted",
        f"  core            {fit.observed_ml[0]:9.1f}  {fit.predicted_ml[0]:9.1f}",
        f"  whole           {fit.observed_ml[1]:9.1f}  {fit.predicted_ml[1]:9.1f}",
        "",
        "Infiltration length sqrt(D/rho)",
        f"  in the patient  {lengths} mm",
        f"rho T             {ages}",
        *sensitivity_lines(result),
        "",
        f"Best match        entry {best.entry}",
        f"  Dice in atlas   {best.dice_core:.3f} + {best.dice_whole:.3f}",
        f"Strategy          {result.method.strategy}",
        f"Database          {result.database.entries:,} entries, {result.database.atlas}",
        f"Registration      {result.registration.mode}",
        f"Time              {result.timings['total']:.1f} s",
    ]
    if result.warnings:
        lines += ["", f"{len(result.warnings)} warning{'s' if len(result.warnings) > 1 else ''}, see below"]
    return lines


def sensitivity_lines(result: Result) -> list[str]:
    """The figures of the refined tumour under other assumptions; none where they were not asked for."""
    if not result.sensitivity:
        return []
    lines = ["Length, rho T and volume, if (no fit)"]
    for row in result.sensitivity:
        lengths = ", ".join(f"{length:.2f}" for length in row.infiltration_lengths_mm)
        ages = ", ".join(f"{age:.1f}" for age in row.rho_t)
        lines += [
            f"  {row.assumption}",
            f"    {lengths} mm, {ages}, {row.above_level_ml:.0f} ml above {row.level:g}",
        ]
    return lines


def warning_columns(warnings: Sequence[str]) -> list[list[str]]:
    """The warnings as columns of wrapped lines, about equally long; what is too much is named with its file."""
    shown = list(warnings[:MOST_WARNINGS])
    if len(warnings) > len(shown):
        shown.append(f"{len(warnings) - len(shown)} more warnings stand in result.json.")
    blocks = [[*textwrap.wrap(f"! {warning}", WARNING_CHARACTERS, subsequent_indent="  "), ""] for warning in shown]
    half = sum(len(block) for block in blocks) / WARNING_COLUMNS
    columns: list[list[str]] = [[] for _ in range(WARNING_COLUMNS)]
    filled = 0
    for block in blocks:
        columns[min(int(filled / half), WARNING_COLUMNS - 1)].extend(block)
        filled += len(block)
    return columns
