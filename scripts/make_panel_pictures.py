"""Draw the pictures of docs/slicer-tutorial.md: the sample case in the panel, step by step, of one run.

    python scripts/make_panel_pictures.py FOLDER

`make docs` calls it. Where the libraries that it needs cannot run it says so and draws none, and the page goes without.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Testing" / "slicer"))

from harness.rendering import missing_packages, reason_not_to_draw


def pictures(running, panel):
    """Do what the tutorial says, and yield the name and the picture of each step."""
    import make_screenshots as drawing
    import slicer
    from harness.driving import click, process_events, wait_until

    ui = panel.ui

    def section(first, last):
        return drawing.picture_of_panel(panel, first, last, margin=4)

    def result():
        return panel.widget._parameterNode.result()

    process_events(5.0)  # the database is described
    yield "opened", section(ui.noticeLabel, ui.statusLabel)
    click(ui.loadSampleButton)
    process_events(1.0)
    yield "inputs", section(ui.inputsCollapsibleButton, ui.inputsCollapsibleButton)
    yield "images", drawing.picture_of_views(running)
    click(ui.uncertaintyCheckBox)
    yield "outputs", section(ui.outputsCollapsibleButton, ui.applyButton)
    click(ui.applyButton)
    ui.logGroupBox.collapsed = False
    wait_until(lambda: ui.progressBar.value >= 40, 900)
    yield "running", section(ui.applyButton, ui.logGroupBox)
    drawing.wait_for(panel, "Done.")
    ui.logGroupBox.collapsed = True

    drawing.zoom(running)
    yield "density", drawing.picture_of_views(running)
    yield "result", section(ui.resultCollapsibleButton, ui.resultCollapsibleButton)
    click_row(panel, "1")
    drawing.wait_for(panel, "Done.")
    yield "match", drawing.picture_of_views(running)
    click_row(panel, "assimilated")
    process_events()
    ui.overlaidComboBox.currentIndex = ui.overlaidComboBox.findText("Probability above the level")
    process_events()
    yield "probability", drawing.picture_of_views(running)
    ui.overlaidComboBox.currentIndex = ui.overlaidComboBox.findText("Density")
    click(ui.showSurfacesCheckBox)
    drawing.look_at_surfaces(running, result().isolines)
    yield "surfaces", drawing.picture_of_views(running)
    click(ui.reportButton)
    process_events()
    yield "report", drawing.grabbed(panel.widget._reportWindow.widget())
    click(ui.makePlansButton)
    drawing.wait_for(panel, "The plans are made: look at them before you use them.")
    yield "plan", section(ui.planCollapsibleButton, ui.planCollapsibleButton)
    yield "plans", drawing.picture_of_views(running)
    with tempfile.TemporaryDirectory() as folder:
        scene = str(Path(folder, "sample.mrb"))
        slicer.util.saveScene(scene)
        slicer.mrmlScene.Clear()
        process_events()
        slicer.util.loadScene(scene)
        process_events(1.0)
        yield "loaded", section(ui.resultCollapsibleButton, ui.planCollapsibleButton)


def click_row(panel, title):
    """Click the row of the matches that begins with a text."""
    from PySide6 import QtCore, QtTest

    table = panel.ui.matchesTableView
    model = table.model()
    [row] = [row for row in range(model.rowCount()) if model.data(model.index(row, 0)) == title]
    place = table.visualRect(model.index(row, 0)).center()
    QtTest.QTest.mouseClick(table.viewport(), QtCore.Qt.LeftButton, QtCore.Qt.NoModifier, place)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    out = parser.parse_args().folder
    shutil.rmtree(out, ignore_errors=True)
    missing = missing_packages()
    reason = f"{' and '.join(missing)} (group slicer-test) cannot be imported" if missing else reason_not_to_draw()
    if reason:
        print(f"The panel's pictures are not drawn: {reason}", file=sys.stderr)
        return
    out.mkdir(parents=True)
    import make_screenshots as drawing

    with drawing.opened_panel() as (running, panel):
        for name, picture in pictures(running, panel):
            picture.save(out / f"{name}.png")


if __name__ == "__main__":
    main()
