"""Make the pictures of README.md: the panel after a run on the sample case, and the views that show its result.

    python scripts/make_screenshots.py [FOLDER]      (Resources/Screenshots by default)

The views are drawn by MRML's own displayable managers, the panel by Qt on the stand-ins of Testing/slicer/harness: the
words and the arrangement are those of the module, the look of buttons and sliders is not Slicer's.
"""

import argparse
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
COLORS = 256  # of the views' picture, which keeps its file small
ZOOM = 1.2  # of the slices, beyond what fits the image
PANEL_WIDTH = 520
MARGIN = 16
BAR_HEIGHT = 10
GAP = 4


def run_sample(panel):
    """Click the sample case and Run, and wait for the result."""
    click(panel.ui.loadSampleButton)
    process_events(5.0)  # the database is described
    click(panel.ui.applyButton)
    wait_until(lambda: panel.widget._run.state.value == "idle", 900)
    if panel.ui.statusLabel.text != "Done.":
        raise SystemExit(panel.ui.logTextEdit.plainText)


def picture_of_panel(panel, path):
    """The whole panel, as high as its contents."""
    import qt

    # Long texts of the result need more height than the panel had before the run; what is too much is cut off.
    panel.parent.resize(PANEL_WIDTH, panel.parent.sizeHint.height() + 100)
    process_events(0.2)
    last = panel.ui.jumpButton
    bottom = last.mapTo(panel.parent, qt.QPoint(0, last.height)).y() + MARGIN
    if not panel.parent.grab(qt.QRect(0, 0, PANEL_WIDTH, bottom)).save(str(path)):
        raise OSError(f"could not write {path}")


def picture_of_views(running, path):
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
    picture = Image.fromarray(np.concatenate([rows[0], row_gap, rows[1]]))
    picture.quantize(COLORS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


def look_at_surfaces(running, isolines):
    """Show the surfaces from the front and above, on the axial slice."""
    view = running.three_d_view
    view.node.SetBoxVisible(False)
    view.node.SetAxisLabelsVisible(False)
    running.views["Red"].node.SetSliceVisible(True)
    bounds = np.zeros(6)
    isolines.GetRASBounds(bounds)
    center = (bounds[::2] + bounds[1::2]) / 2
    camera = view.renderer.GetActiveCamera()
    camera.SetFocalPoint(*center)
    camera.SetPosition(*(center + np.array([-0.4, 1.0, 0.9]) * 230))
    camera.SetViewUp(0, 0, 1)
    view.renderer.ResetCameraClippingRange()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=REPOSITORY / "Resources" / "Screenshots")
    out = parser.parse_args().folder
    out.mkdir(parents=True, exist_ok=True)
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
        run_sample(panel)
        picture_of_panel(panel, out / "slicer_panel.png")

        result = panel.widget._parameterNode.result()
        click(panel.ui.showSurfacesCheckBox)
        click(panel.ui.jumpButton)
        for view in running.views.values():
            width, height, depth = view.node.GetFieldOfView()
            view.node.SetFieldOfView(width / ZOOM, height / ZOOM, depth)
        look_at_surfaces(running, result.isolines)
        first = running.views["Red"].node
        for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"):
            # one legend is enough: in the first view
            legend.SetViewNodeIDs([first.GetID()])
        picture_of_views(running, out / "slicer_views.png")
        panel.close()
        running.close()


if __name__ == "__main__":
    main()
