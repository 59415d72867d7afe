"""Make the pictures of README.md: the panel after a run on the sample case with its plans, and the views of both.

    python scripts/make_screenshots.py [FOLDER]      (Resources/Screenshots by default)

The views are drawn by MRML's own displayable managers, the panel by Qt on the stand-ins of Testing/slicer/harness: the
words and the arrangement are those of the module, the look of buttons and sliders is not Slicer's.
"""

import argparse
import contextlib
import os
import stat
import sys
import tempfile
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
for folder in (REPOSITORY / "Testing" / "slicer", REPOSITORY / "TumorQuery", REPOSITORY):
    sys.path.insert(0, str(folder))

import slicer
from harness.application import Panel, Slicer
from harness.driving import click, process_events, wait_until
from harness.views import SLICE_VIEWS
from PIL import Image

VIEW_SIZE = (600, 520)
GREYS, COLORS = 13, 32  # of a picture, which keeps its file small
GREY = 16  # red, green and blue of a grey differ by less
ZOOM = 1.2  # of the slices, beyond what fits the image
PANEL_WIDTH = 520
MARGIN = 16
BAR_HEIGHT = 10
GAP = 4


def run_sample(panel):
    """Click the sample case, Uncertainty, Apply and Make plans, and wait for each."""
    click(panel.ui.loadSampleButton)
    process_events(5.0)  # the database is described
    click(panel.ui.uncertaintyCheckBox)
    click(panel.ui.applyButton)
    wait_for(panel, "Done.")
    click(panel.ui.makePlansButton)
    wait_for(panel, "The plans are made: look at them before you use them.")


def wait_for(panel, end):
    """Wait for the end of a run, which says so."""
    wait_until(lambda: panel.widget._run.state.value == "idle", 900)
    if panel.ui.statusLabel.text != end:
        raise SystemExit(panel.ui.logTextEdit.plainText)


def save(picture, path):
    """Write a picture with few greys and colours, and without dither, which would not compress."""
    from TumorQueryModule.Overlay import PLAN_COLORS, SEGMENT_DISPLAY

    pixels = np.asarray(picture).reshape(-1, 3)
    colored = Image.fromarray(pixels[np.ptp(pixels, axis=1) >= GREY][None])
    most = colored.quantize(COLORS, method=Image.Quantize.MEDIANCUT, kmeans=3).getpalette()[: 3 * COLORS]
    thin = [*PLAN_COLORS.values(), *(color for color, _ in SEGMENT_DISPLAY.values())]  # lines: few pixels each
    thin += [color for _, _, color in SLICE_VIEWS.values()]
    greys = np.linspace(0, 255, GREYS).round().astype(int).repeat(3)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*greys.tolist(), *(round(255 * part) for color in thin for part in color), *most])
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


def picture_of_panel(panel, first, last, margin=MARGIN):
    """The panel from the top of one of its widgets to the bottom of another, and a margin."""
    import qt

    # The texts of a result need more height than the panel had before the run.
    width = max(PANEL_WIDTH, panel.parent.minimumSizeHint.width())
    panel.parent.resize(width, panel.parent.heightForWidth(width))
    process_events(0.2)
    top = max(0, first.mapTo(panel.parent, qt.QPoint(0, 0)).y() - margin)
    bottom = last.mapTo(panel.parent, qt.QPoint(0, last.height)).y() + margin
    return grabbed(panel.parent, qt.QRect(0, top, width, bottom - top))


def grabbed(widget, *rectangle):
    """What a widget shows, or a rectangle of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "widget.png")
        if not widget.grab(*rectangle).save(str(path)):
            raise OSError(f"could not write {path}")
        return Image.open(path).convert("RGB")


def picture_of_views(running):
    """The four-up view: axial, 3D, coronal and sagittal, each slice below the bar of its colour."""
    images = {}
    for name, view in running.views.items():
        bar = np.empty((BAR_HEIGHT, VIEW_SIZE[0], 3), np.uint8)
        bar[:] = np.array(SLICE_VIEWS[name][2]) * 255
        images[name] = np.concatenate([bar, view.pixels()[BAR_HEIGHT:]])
    images["3D"] = running.three_d_view.pixels()
    row_gap = np.full((GAP, 2 * VIEW_SIZE[0] + GAP, 3), 60, np.uint8)
    column_gap = np.full((VIEW_SIZE[1], GAP, 3), 60, np.uint8)
    rows = [
        np.concatenate([images[left], column_gap, images[right]], axis=1)
        for left, right in (("Red", "3D"), ("Green", "Yellow"))
    ]
    return Image.fromarray(np.concatenate([rows[0], row_gap, rows[1]]))


def look_at_surfaces(running, isolines):
    """Show the surfaces from the front and above, on the axial slice."""
    view = running.three_d_view
    view.node.SetBoxVisible(False)
    view.node.SetAxisLabelsVisible(False)
    view.node.SetBackgroundColor2(view.node.GetBackgroundColor())  # a gradient takes many colours
    running.views["Red"].node.SetSliceVisible(True)
    bounds = np.zeros(6)
    isolines.GetRASBounds(bounds)
    center = (bounds[::2] + bounds[1::2]) / 2
    camera = view.renderer.GetActiveCamera()
    camera.SetFocalPoint(*center)
    camera.SetPosition(*(center + np.array([-0.4, 1.0, 0.9]) * 230))
    camera.SetViewUp(0, 0, 1)
    view.renderer.ResetCameraClippingRange()


def zoom(running):
    """Enlarge the slices, and leave one legend, in the first view."""
    for view in running.views.values():
        width, height, depth = view.node.GetFieldOfView()
        view.node.SetFieldOfView(width / ZOOM, height / ZOOM, depth)
    for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"):
        legend.SetViewNodeIDs([running.views["Red"].node.GetID()])


@contextlib.contextmanager
def opened_panel():
    """The application and the opened panel, which starts its worker by a PythonSlicer that is this interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = Path(folder, "PythonSlicer")
        launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
        os.environ["PATH"] = os.pathsep.join([folder, os.environ["PATH"]])
        running = Slicer(VIEW_SIZE)
        import TumorQuery

        panel = Panel(TumorQuery, "TumorQuery")
        panel.parent.resize(PANEL_WIDTH, 1400)
        panel.parent.show()
        yield running, panel
        panel.close()
        running.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=REPOSITORY / "Resources" / "Screenshots")
    out = parser.parse_args().folder
    out.mkdir(parents=True, exist_ok=True)
    with opened_panel() as (running, panel):
        run_sample(panel)
        save(picture_of_panel(panel, panel.ui.noticeLabel, panel.ui.planCollapsibleButton), out / "slicer_panel.png")
        click(panel.ui.showSurfacesCheckBox)
        click(panel.ui.jumpButton)
        zoom(running)
        look_at_surfaces(running, panel.widget._parameterNode.result().isolines)
        save(picture_of_views(running), out / "slicer_views.png")


if __name__ == "__main__":
    main()
