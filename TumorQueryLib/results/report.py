"""report.png: what a radiologist looks at first.

Three planes through the tumour and a lightbox, in the radiological orientation
that Slicer uses: the patient's right on the viewer's left, anterior on top of an
axial slice and on the left of a sagittal one.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.estimates.uncertainty import UNDETERMINED
from TumorQueryLib.geometry.grid import Grid, Volume, resample, resample_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

    from TumorQueryLib.estimates.estimate import Estimate
    from TumorQueryLib.estimates.uncertainty import Uncertainty
    from TumorQueryLib.results.result import Result

#: What lies over an image.
Overlay = Literal["none", "density", "sd"]

DISPLAY_SPACING = 1.0
MARGIN = 4.0
SCALE_BAR = 50.0
ISOLINE_STYLES: dict[str, Literal["-", "--"]] = {"core": "-", "whole": "--"}
OBSERVED_COLOURS = {"whole": "#4ade80", "core": "#38bdf8"}
LIGHTBOX_SLICES = 8
TEXT = "#e5e7eb"
WARNING_TEXT = LETTERS = "#fde047"

FIGURE_WIDTH, FIGURE_HEIGHT = 17.0, 12.6  # inches, without warnings
#: Inches of the planes' two rows, and of the row of the standard deviation; the page grows with them.
PLANES_HEIGHT, UNCERTAINTY_ROW = 7.2, 3.9
#: Of the planes' height, the part of the text beside them, without and with the row of the standard deviation.
TEXT_SHARES = 0.778, 0.738
TEXT_LINE = 0.216  # inches
#: Isolines of the 5 and the 95 % bound at the level that was asked for.
BOUND_COLOUR = "#f472b6"
BOUND_STYLES: dict[str, Literal["-", ":"]] = {"5 %": ":", "95 %": "-"}
#: Warnings stand below the pictures in columns; the page grows with them.
WARNING_COLUMNS = 2
WARNING_CHARACTERS = 98  # of a line
WARNING_LINE = 0.165  # inches
NOTE_CHARACTERS = 190  # of a line across the page
MOST_WARNINGS = 20
#: Of a picture's title in its axes; unnamed, matplotlib lays out ticks that are not drawn to find it.
TITLE_PLACE = 1.0

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
    # Every other voxel is enough for a box, with one row more on each side.
    points = image.grid.to_ras(2 * np.argwhere(content[::2, ::2, ::2]))
    return Grid.around(points, DISPLAY_SPACING, MARGIN + image.grid.spacing.max())


@dataclass(frozen=True, eq=False)
class Bounds:
    """How sure a density is: 5 and 95 % bound by name, and standard deviation, on the scene's grid.

    `name` says of which: the one shown, or the assimilated one.
    """

    name: str
    level: float
    bounds: dict[str, NDArray[np.float32]]
    sd: NDArray[np.float32]

    @property
    def largest_sd(self) -> float:
        """End of the colour bar: the largest standard deviation, rounded up to a twentieth."""
        return max(1.0, np.ceil(round(20 * float(self.sd.max()), 3))) / 20


@dataclass(frozen=True, eq=False)
class Scene:
    """What is drawn, all of it on one display grid; arrays are indexed [i, j, k], isolines are at `thresholds`."""

    grid: Grid
    images: dict[str, NDArray[np.float32]]
    windows: dict[str, tuple[float, float]]
    density: NDArray[np.float32]
    observed: dict[str, NDArray[np.bool_]]
    thresholds: dict[str, float]
    uncertainty: Bounds | None = None

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
        uncertainty=None if result.uncertainty is None else bounds_of(result.uncertainty, grid, result.chosen),
    )


def bounds_of(uncertainty: Uncertainty, grid: Grid, shown: str) -> Bounds:
    """Put the bounds of a density on a display grid."""
    lower, upper = (resample(bound, grid).array for bound in uncertainty.band(0.9))
    name = "density" if shown == "assimilated" else "assimilated density"
    return Bounds(name, uncertainty.level, {"5 %": lower, "95 %": upper}, resample(uncertainty.sd, grid).array)


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
    note = [] if scene.uncertainty is None else [*textwrap.wrap(UNDETERMINED, NOTE_CHARACTERS), ""]
    strip = WARNING_LINE * (len(note) + max(len(column) for column in warnings))
    text = figures_of(result)
    rows, share = (0.0, TEXT_SHARES[0]) if scene.uncertainty is None else (UNCERTAINTY_ROW, TEXT_SHARES[1])
    planes_height = max(PLANES_HEIGHT + rows, TEXT_LINE * len(text) / share)
    height = FIGURE_HEIGHT - PLANES_HEIGHT + planes_height + strip
    figure = Figure(figsize=(FIGURE_WIDTH, height), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    draw_heading(figure, 1 - 0.4 / height)
    parts = figure.add_gridspec(
        2,
        1,
        height_ratios=(planes_height / PLANES_HEIGHT, 0.52),
        left=0.01,
        right=0.99,
        top=1 - 0.8 / height,
        bottom=(strip + 0.35) / height,
        hspace=0.09,
    )
    columns = parts[0].subgridspec(1, 2, width_ratios=(1.0, 0.36), wspace=0.04)
    draw_planes(figure, columns[0], scene)
    draw_figures(figure, columns[1], text, scene)
    draw_lightbox(figure, parts[1], scene)
    small: dict[str, Any] = {"fontsize": 10, "family": "monospace", "va": "top", "linespacing": 1.15}
    figure.text(0.01, (strip + 0.15) / height, "\n".join(note), color=TEXT, **small)
    draw_warnings(figure, warnings, (strip + 0.15 - WARNING_LINE * len(note)) / height)
    return figure


def draw_heading(figure: Figure, y: float) -> None:
    """The title, and what the report is not, at a height of the page."""
    left: dict[str, Any] = {"fontsize": 17, "weight": "bold", "color": "white", "ha": "left"}
    right: dict[str, Any] = {"fontsize": 11, "color": TEXT, "ha": "right"}
    figure.text(0.01, y, "TumorQuery: tumour cell density", va="center", **left)
    caution = "Research software, not a medical device. Patient's right is on the viewer's left."
    figure.text(0.99, y, caution, va="center", **right)


def draw_planes(figure: Figure, place: SubplotSpec, scene: Scene) -> None:
    """The three planes through the tumour, a row for each image, and one for the density's standard deviation."""
    rows: list[tuple[str, str, Overlay]] = [(name, name, "density") for name in scene.images]
    if scene.uncertainty is not None:
        rows.append(("Standard deviation", "T1Gd", "sd"))
    planes = place.subgridspec(len(rows), 3, wspace=0.02, hspace=0.08)
    for row, (title, name, overlay) in enumerate(rows):
        for column, plane in enumerate(ORIENTATION_LETTERS):
            axes = figure.add_subplot(planes[row, column])
            draw_plane(axes, scene, name, plane, scene.centre[NORMAL_AXIS[plane]], overlay=overlay)
            axes.set_title(f"{title}, {plane}", y=TITLE_PLACE, color=TEXT, fontsize=11, pad=3)


def draw_lightbox(figure: Figure, place: SubplotSpec, scene: Scene) -> None:
    """Axial slices through the tumour, without the density and with it."""
    lightbox = place.subgridspec(2, LIGHTBOX_SLICES, wspace=0.02, hspace=0.02)
    for column, index in enumerate(lightbox_indices(scene)):
        overlays: tuple[Overlay, ...] = ("none", "density")
        for row, overlay in enumerate(overlays):
            axes = figure.add_subplot(lightbox[row, column])
            draw_plane(axes, scene, "T1Gd", "axial", index, overlay=overlay, letters="" if column else "RL")
            if overlay == "none":
                z = scene.grid.to_ras((0, 0, index))[2]
                height = f"S {z:.0f} mm" if z >= 0 else f"I {-z:.0f} mm"
                axes.set_title(height, y=TITLE_PLACE, color=TEXT, fontsize=9, pad=2)


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
    axes: Axes,
    scene: Scene,
    name: str,
    plane: str,
    index: int,
    *,
    overlay: Overlay = "density",
    letters: str | None = None,
) -> None:
    """Draw one slice: the image, the density or its standard deviation over it, lines, orientation and scale.

    `letters` stand at the left, right, top and bottom, as many as there are; with none there is no scale bar either.
    """
    low, high = scene.windows[name]
    axes.set_facecolor("black")
    axes.set_axis_off()
    background = plane_of(scene.images[name], plane, index)
    axes.imshow(background, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
    if overlay == "density":
        values = plane_of(scene.density, plane, index)
        axes.imshow(density_colours(values), interpolation="nearest")
        for region, level in scene.thresholds.items():
            outline(axes, values, level, "white", ISOLINE_STYLES[region])
    elif overlay == "sd" and scene.uncertainty is not None:
        values = plane_of(scene.uncertainty.sd, plane, index)
        axes.imshow(sd_colours(values / scene.uncertainty.largest_sd), interpolation="nearest")
    for region, colour in OBSERVED_COLOURS.items():
        outline(axes, plane_of(scene.observed[region], plane, index).astype(np.float32), 0.5, colour, "-")
    if overlay != "none" and scene.uncertainty is not None:
        # Over the segmentation's outline, which the 5 % bound of a low level comes close to.
        for bound, volume in scene.uncertainty.bounds.items():
            values = plane_of(volume, plane, index)
            outline(axes, values, scene.uncertainty.level, BOUND_COLOUR, BOUND_STYLES[bound])
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


def sd_colours(shares: NDArray[np.floating]) -> NDArray[np.float64]:
    """RGBA of a standard deviation as a share of the largest: transparent where it is 0."""
    import matplotlib

    colours = matplotlib.colormaps["viridis"](0.1 + 0.9 * np.clip(shares, 0, 1))
    colours[..., 3] = 0.75 * np.clip(shares / 0.2, 0, 1)
    return colours


def outline(axes: Axes, values: NDArray, level: float, colour: str, style: str) -> None:
    """A contour line, where the level is reached in this slice."""
    if values.min() < level < values.max():
        axes.contour(values, levels=[level], colors=[colour], linestyles=[style], linewidths=1.3)


def draw_figures(figure: Figure, place: SubplotSpec, text: Sequence[str], scene: Scene) -> None:
    """The estimate in figures, the legend and the colour bars, right of the planes."""
    shown = scene.uncertainty
    ratios, gap = ((1.0, 0.14, 0.05), 0.12) if shown is None else ((1.0, 0.09, 0.036, 0.036), 0.22)
    parts = place.subgridspec(len(ratios), 1, height_ratios=ratios, hspace=gap)
    axes = figure.add_subplot(parts[0])
    axes.set_axis_off()
    style: dict[str, Any] = {"color": TEXT, "fontsize": 11.5, "family": "monospace"}
    axes.text(0, 1.0, "\n".join(text), va="top", linespacing=1.35, **style)
    draw_legend(figure.add_subplot(parts[1]), scene)
    draw_bar(figure.add_subplot(parts[2]), density_colours, 1.0, "tumour cell density (fraction)")
    if shown is not None:
        draw_bar(figure.add_subplot(parts[3]), sd_colours, shown.largest_sd, f"standard deviation of the {shown.name}")


def draw_legend(axes: Axes, scene: Scene) -> None:
    """What the lines in the pictures are."""
    from matplotlib.lines import Line2D

    axes.set_axis_off()
    names = {"core": "segmented core", "whole": "segmented whole tumour"}
    columns = [
        [Line2D([], [], color=OBSERVED_COLOURS[region], label=name) for region, name in names.items()],
        [
            Line2D([], [], color="white", linestyle=ISOLINE_STYLES[region], label=f"density {level:g}")
            for region, level in scene.thresholds.items()
        ],
    ]
    bounds = scene.uncertainty
    if bounds is not None:
        for column, (bound, line) in zip(columns, BOUND_STYLES.items()):
            column.append(Line2D([], [], color=BOUND_COLOUR, linestyle=line, label=f"{bound} bound {bounds.level:g}"))
    style: dict[str, Any] = {"loc": "center left", "ncols": 2, "frameon": False, "labelcolor": TEXT}
    handles = [*columns[0], *columns[1]]
    if bounds is not None and bounds.name != "density":
        style |= {"title": f"bounds: of the {bounds.name}", "title_fontsize": 10.5}
    legend = axes.legend(handles=handles, fontsize=10.5, columnspacing=1.0, handlelength=1.6, **style)
    legend.get_title().set_color(TEXT)


def draw_bar(axes: Axes, colours: Callable[[NDArray], NDArray], end: float, title: str) -> None:
    """A colour bar from 0 to `end`, of colours over the grey of white matter, as the overlay is."""
    from matplotlib.colors import ListedColormap

    ramp = colours(np.linspace(0, 1, 256, dtype=np.float32))
    opaque = ramp[:, :3] * ramp[:, 3:] + 0.35 * (1 - ramp[:, 3:])
    axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", extent=(0, end, 0, 1), cmap=ListedColormap(opaque))
    axes.set_yticks([])
    axes.set_xticks(np.linspace(0, end, 6))
    axes.xaxis.set_major_formatter("{x:.2g}")
    axes.tick_params(colors=TEXT, labelsize=10)
    axes.set_title(title, y=TITLE_PLACE, color=TEXT, fontsize=10.5, pad=3)


def figures_of(result: Result) -> list[str]:
    """The lines of text beside the pictures: the figures of the estimate that they show.

    An assimilated density agrees with the segmentation by construction, so that Dice, volumes and parameters are those
    of the model that it was made from, and said to be.
    """
    estimate, best = result.model, result.matches[0]
    fit, match = estimate.fit, result.estimates["match"]
    place = "the patient's anatomy" if estimate.anatomy.name == "patient" else "the atlas"
    if result.estimate is estimate:
        lines = [
            f"Density shown     {estimate.name}, grown in",
            f"                  {place}",
            "Agreement with the segmentation",
        ]
    else:
        lines = [
            "Density shown     assimilated",
            f"Its model         {estimate.name}, grown in",
            f"                  {place}",
            "The model's agreement with the segmentation",
        ]
    lines += [
        f"  Dice core       {fit.dice_core:.3f}",
        f"  Dice whole      {fit.dice_whole:.3f}",
        f"  sum             {fit.dice_sum:.3f} of 2",
    ]
    if estimate is not match:
        lines.append(f"  (best match     {match.fit.dice_sum:.3f})")
    if result.estimate is not estimate:
        rms = estimate.residual_rms
        lines.append(f"  residual rms    {'none' if math.isnan(rms) else f'{rms:.2f} log-odds'}")
    predicted = "predicted" if result.estimate is estimate else "    model"
    lines += [
        f"  The modelled outlines agree {fit.quality}",
        "  with the segmentation.",
        "",
        f"Volume, ml        segmented  {predicted}",
        f"  core            {fit.observed_ml[0]:9.1f}  {fit.predicted_ml[0]:9.1f}",
        f"  whole           {fit.observed_ml[1]:9.1f}  {fit.predicted_ml[1]:9.1f}",
        "",
        *parameter_lines(estimate, result.uncertainty),
        *sensitivity_lines(result),
        *plan_lines(result),
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


def parameter_lines(estimate: Estimate, uncertainty: Uncertainty | None) -> list[str]:
    """What a tumour's parameters are, and between which values they lie where that is known."""
    lines = []
    if uncertainty is None or uncertainty.model != estimate.name:
        lengths = ", ".join(f"{length:.2f}" for length in estimate.infiltration_lengths_mm)
        ages = ", ".join(f"{parameters.rho_t:.1f}" for parameters in estimate.parameters)
        lines += ["Infiltration length sqrt(D/rho)", f"  in the patient  {lengths} mm", f"rho T             {ages}"]
    if uncertainty is None:
        return lines
    if lines:
        lines += ["", f"The estimate {uncertainty.model}, which was varied:"]
    between = "90 % between {0:.1f} and {1:.1f}".format
    scale = uncertainty.anatomy.length_scale
    lines.append("Infiltration length sqrt(D/rho), patient")
    for focus, spread in enumerate(uncertainty.spreads):
        length = spread.parameters.infiltration_length * scale
        lines.append(f"  {length:.1f} mm, {between(*uncertainty.length_interval(focus=focus))}")
    lines.append("rho T")
    for focus, spread in enumerate(uncertainty.spreads):
        lines.append(f"  {spread.parameters.rho_t:.1f}, {between(*uncertainty.rho_t_interval(focus=focus))}")
    low, high = uncertainty.volume_interval
    return [
        *lines,
        f"Assimilated volume above {uncertainty.level:g}",
        f"  {uncertainty.volume_ml:.0f} ml, 90 % between {low:.0f} and {high:.0f}",
    ]


def sensitivity_lines(result: Result) -> list[str]:
    """The figures of the refined tumour under other assumptions; none where they were not asked for."""
    if not result.sensitivity:
        return []
    lines = ["", f"No fit: length (mm), ml above {result.sensitivity[0].level:g}, with"]
    for row in result.sensitivity:
        lengths = "/".join(f"{length:.1f}" for length in row.infiltration_lengths_mm)
        lines.append(f"  {row.assumption:<28}{lengths} {row.above_level_ml:5.0f}")
    return lines


def plan_lines(result: Result) -> list[str]:
    """Where the plans are; none where they were not asked for. Their figures may be made anew, and this page is not."""
    return [] if result.plans is None else ["", "Plans             plan.png, plan.json"]


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
