"""Draw the icon of the Slicer module and the thumbnail of the sample case.

Usage: python scripts/make_icons.py
"""

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Ellipse
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
ICONS = ROOT / "TumorQuery" / "Resources" / "Icons"

# The colors of the density in Slicer (TumorQueryModule/Overlay.py).
DENSITY_COLORS = LinearSegmentedColormap.from_list(
    "density", [(0.27, 0.05, 0.55), (0.72, 0.13, 0.46), (0.96, 0.48, 0.20), (0.99, 0.96, 0.60)]
)


def square_axes(width: float, height: float):
    """A figure without margins on a transparent ground."""
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return figure, axes


def draw_icon(path: Path) -> None:
    """A brain seen from above, a tumour whose cells reach beyond its rim, and the rim."""
    figure, axes = square_axes(128, 128)
    axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
    axes.add_patch(Ellipse((0, 0), 1.56, 1.96, facecolor="#d8dde3", edgecolor="#5b6673", linewidth=3))
    axes.plot([0, 0], [-0.9, 0.9], color="#5b6673", linewidth=2)
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    distance = np.hypot(x - 0.3, (y - 0.22) * 0.85)
    density = 1 / (1 + np.exp((distance - 0.3) / 0.09))
    density[(x / 0.76) ** 2 + (y / 0.96) ** 2 > 1] = 0
    rgba = DENSITY_COLORS(density)
    rgba[..., 3] = np.clip(density * 4, 0, 0.95)
    axes.imshow(rgba, extent=(-1, 1, -1, 1), origin="lower", zorder=3)
    axes.contour(x, y, density, levels=[0.6], colors="white", linewidths=2, zorder=4)
    figure.savefig(path, transparent=True)
    plt.close(figure)


def draw_sample(path: Path) -> None:
    """The sample's T1Gd in the plane of the largest tumour, its true density over it."""
    folder = ROOT / "Resources" / "SampleData"
    image = sitk.DICOMOrient(sitk.ReadImage(str(folder / "t1gd.nii.gz")), "LPS")
    truth = sitk.Resample(sitk.ReadImage(str(folder / "density_true.nrrd")), image)
    t1gd, density = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(truth)
    plane = int(np.argmax(density.sum(axis=(1, 2))))
    aspect = image.GetSpacing()[1] / image.GetSpacing()[0]
    figure, axes = square_axes(260, 280)
    figure.set_facecolor("black")
    axes.imshow(t1gd[plane], cmap="gray", vmax=np.percentile(t1gd[plane], 99.5), aspect=aspect)
    shown = np.ma.masked_less(density[plane], 0.05)
    axes.imshow(shown, cmap=DENSITY_COLORS, vmin=0, vmax=1, alpha=0.7, aspect=aspect)
    page = io.BytesIO()
    figure.savefig(page)
    # Few colours: a quarter of the size, and the eye sees no difference.
    few = Image.open(page).convert("RGB").quantize(48, Image.Quantize.MAXCOVERAGE, 3, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    plt.close(figure)


if __name__ == "__main__":
    ICONS.mkdir(parents=True, exist_ok=True)
    draw_icon(ICONS / "TumorQuery.png")
    draw_sample(ICONS / "TumorQuerySample.png")
