"""report.png: what a radiologist looks at first.

Three planes through the tumour and a lightbox, in the radiological orientation
that Slicer uses: the patient's right on the viewer's left, anterior on top of an
axial slice and on the left of a sagittal one.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.geometry.grid import Grid, Volume, resample, resample_mask

if TYPE_CHECKING:
    from TumorQueryLib.inference import Inference

DISPLAY_SPACING = 1.0
MARGIN = 4.0
SCALE_BAR = 50.0
ISOLINES: dict[float, Any] = {0.2: "--", 0.6: "-"}
OBSERVED_COLOURS = {"whole": "#4ade80", "core": "#38bdf8"}
LIGHTBOX_SLICES = 8
TEXT = "#e5e7eb"

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
    margin = MARGIN + image.grid.spacing.max()
    start = points.min(axis=0) - margin
    shape = np.ceil((points.max(axis=0) + margin - start) / DISPLAY_SPACING).astype(int) + 1
    affine = np.diag([DISPLAY_SPACING] * 3 + [1.0])
    affine[:3, 3] = start
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


@dataclass(frozen=True, eq=False)
class Scene:
    """What is drawn, all of it on one display grid; arrays are indexed [i, j, k]."""

    grid: Grid
    images: dict[str, NDArray[np.float32]]
    windows: dict[str, tuple[float, float]]
    density: NDArray[np.float32]
    observed: dict[str, NDArray[np.bool_]]

    @property
    def centre(self) -> tuple[int, int, int]:
        """The voxel whose planes are shown: the centre of the core, else of the whole tumour, else of the grid."""
        for name in ("core", "whole"):
            if self.observed[name].any():
                i, j, k = np.round(np.argwhere(self.observed[name]).mean(axis=0)).astype(int)
                return int(i), int(j), int(k)
        i, j, k = self.grid.shape
        return i // 2, j // 2, k // 2


def scene_of(inference: Inference) -> Scene:
    """Put images, density and segmentation of an inference on one display grid."""
    patient = inference.patient
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
        density=resample(inference.density, grid).array,
        observed={
            "core": resample_mask(patient.core, grid).array,
            "whole": resample_mask(patient.whole, grid).array,
        },
    )


def grey_window(image: NDArray[np.float32]) -> tuple[float, float]:
    """Grey values shown as black and as white: those of the darkest and the brightest tissue."""
    sample = image.ravel()[:: max(1, image.size // 200_000)]
    values, counts = np.unique(sample, return_counts=True)
    background = values[counts.argmax()]
    tissue = sample[np.abs(sample - background) > 0.02 * np.ptp(sample)]
    low, high = np.percentile(tissue, (0.5, 99.7)) if tissue.size else (background, background)
    return float(low), float(max(high, low + 1e-6))


def write_report(inference: Inference, path: Path) -> None:
    """Draw the report of an inference into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scene = scene_of(inference)
    figure = Figure(figsize=(17, 12.6), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    rows = figure.add_gridspec(
        2, 1, height_ratios=(1.0, 0.52), left=0.01, right=0.99, top=0.945, bottom=0.03, hspace=0.09
    )
    columns = rows[0].subgridspec(1, 2, width_ratios=(1.0, 0.36), wspace=0.04)
    planes = columns[0].subgridspec(len(scene.images), 3, wspace=0.02, hspace=0.04)
    for row, name in enumerate(scene.images):
        for column, plane in enumerate(ORIENTATION_LETTERS):
            axes = figure.add_subplot(planes[row, column])
            draw_plane(axes, scene, name, plane, scene.centre[NORMAL_AXIS[plane]])
            axes.set_title(f"{name}, {plane}", color=TEXT, fontsize=11, pad=3)
    lightbox = rows[1].subgridspec(2, LIGHTBOX_SLICES, wspace=0.02, hspace=0.02)
    for column, index in enumerate(lightbox_indices(scene)):
        for row, overlaid in enumerate((False, True)):
            axes = figure.add_subplot(lightbox[row, column])
            draw_plane(axes, scene, "T1Gd", "axial", index, density=overlaid, letters=column == 0)
            if not overlaid:
                height = scene.grid.to_ras((0, 0, index))[2]
                axes.set_title(
                    f"S {height:.0f} mm" if height >= 0 else f"I {-height:.0f} mm", color=TEXT, fontsize=9, pad=2
                )
    figure.text(
        0.01,
        0.968,
        "TumorQuery: tumour cell density",
        color="white",
        fontsize=17,
        weight="bold",
        ha="left",
        va="center",
    )
    figure.text(
        0.99,
        0.968,
        "Research software, not a medical device. Patient's right is on the viewer's left.",
        color=TEXT,
        fontsize=11,
        ha="right",
        va="center",
    )
    draw_figures(figure, columns[1], inference)
    figure.savefig(path, format="png", facecolor="black")


def lightbox_indices(scene: Scene) -> list[int]:
    """Axial slices spread evenly over the segmented and the predicted tumour."""
    shown = scene.observed["whole"] | (scene.density > min(ISOLINES))
    slices = np.flatnonzero(shown.any(axis=(0, 1)))
    if slices.size == 0:
        slices = np.arange(scene.grid.shape[2])
    return [int(k) for k in np.round(np.linspace(slices[0], slices[-1], LIGHTBOX_SLICES + 2))[1:-1]]


def draw_plane(
    axes, scene: Scene, name: str, plane: str, index: int, *, density: bool = True, letters: bool = True
) -> None:
    """Draw one slice: the image, the density over it, isolines, outlines, letters and a scale bar."""
    low, high = scene.windows[name]
    axes.set_facecolor("black")
    axes.set_axis_off()
    background = plane_of(scene.images[name], plane, index)
    axes.imshow(background, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
    if density:
        values = plane_of(scene.density, plane, index)
        axes.imshow(density_colours(values), interpolation="nearest")
        for level, style in ISOLINES.items():
            outline(axes, values, level, "white", style)
    for region, colour in OBSERVED_COLOURS.items():
        outline(axes, plane_of(scene.observed[region], plane, index).astype(np.float32), 0.5, colour, "-")
    rows, columns = background.shape
    # A margin of one slice thickness, so that contours at the border are not cut.
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    if letters:
        left, right, top, bottom = tuple(ORIENTATION_LETTERS[plane])
        spots = ((left, 0.02, 0.5), (right, 0.98, 0.5), (top, 0.5, 0.97), (bottom, 0.5, 0.03))
        for letter, x, y in spots if density else spots[:2]:
            axes.text(
                x,
                y,
                letter,
                transform=axes.transAxes,
                color="#fde047",
                fontsize=11,
                weight="bold",
                ha="center",
                va="center",
            )
        length = SCALE_BAR / DISPLAY_SPACING
        axes.plot(
            [columns - 8 - length, columns - 8], [rows - 5] * 2, color="white", linewidth=2.5, solid_capstyle="butt"
        )
        axes.text(
            columns - 8 - length / 2,
            rows - 8,
            f"{SCALE_BAR / 10:.0f} cm",
            color="white",
            fontsize=9,
            ha="center",
            va="bottom",
        )


def density_colours(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """RGBA of a density: transparent where there are no cells, so that the anatomy stays visible."""
    import matplotlib

    colours = matplotlib.colormaps["inferno"](0.15 + 0.85 * np.clip(values, 0, 1))
    colours[..., 3] = 0.62 * np.clip(values / 0.25, 0, 1) ** 0.8
    return colours


def outline(axes, values: NDArray, level: float, colour: str, style: str) -> None:
    """A contour line, where the level is reached in this slice."""
    if values.min() < level < values.max():
        axes.contour(values, levels=[level], colors=[colour], linestyles=[style], linewidths=1.3)


def draw_figures(figure, place, inference: Inference) -> None:
    """The match in figures, the legend and the warnings, right of the planes."""
    from matplotlib.colors import ListedColormap
    from matplotlib.lines import Line2D

    parts = place.subgridspec(3, 1, height_ratios=(1.0, 0.14, 0.05), hspace=0.12)
    axes = figure.add_subplot(parts[0])
    axes.set_axis_off()
    axes.text(
        0,
        1.0,
        "\n".join(figures_of(inference)),
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
            Line2D([], [], color="white", linestyle=style, label=f"density {level}")
            for level, style in ISOLINES.items()
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


def figures_of(inference: Inference) -> list[str]:
    """The lines of text beside the pictures."""
    best, parameters = inference.matches[0], inference.matched_parameters[0]
    space = inference.patient_space
    observed, predicted = space["volumes_ml"]["observed"], space["volumes_ml"]["predicted"]
    scale = inference.registration.length_scale(inference.observed_whole)
    lines = [
        f"Strategy          {inference.strategy}",
        f"Database          {inference.database['entries']:,} entries, {inference.database['atlas']}",
        f"Registration      {inference.registration.mode}",
        "",
        f"Best match        entry {best.entry}",
        "Dice in the atlas",
        f"  core   (T1Gd)   {best.dice_core:.3f}",
        f"  whole  (FLAIR)  {best.dice_whole:.3f}",
        f"  sum             {best.dice_sum:.3f} of 2",
        "Dice in the patient",
        f"  core            {space['dice_core']:.3f}",
        f"  whole           {space['dice_whole']:.3f}",
        "",
        "Volume, ml        segmented  predicted",
        f"  core            {observed['core']:9.1f}  {predicted['core']:9.1f}",
        f"  whole           {observed['whole']:9.1f}  {predicted['whole']:9.1f}",
        "",
        "Infiltration length sqrt(D/rho)",
        f"  in the patient  {parameters.infiltration_length * scale:.2f} mm",
        f"rho T             {parameters.rho_t:.1f}",
        "",
        f"Time              {inference.timings['total']:.1f} s",
    ]
    for warning in inference.warnings:
        lines += ["", *textwrap.wrap("! " + warning, 42)]
    return lines
