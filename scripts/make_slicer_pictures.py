"""Make the README's pictures of the Slicer module: the panel and the four-up view after a run on the sample case.

Usage: python scripts/make_slicer_pictures.py [FOLDER]

The panel is drawn by stand-ins for Slicer's widgets, the views by Slicer's own MRML and VTK. The folder is
Resources/Screenshots by default.
"""

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "Testing" / "slicer"), str(ROOT / "TumorQuery"), str(ROOT)]

import harness  # noqa: F401  sets the environment that decides how is drawn; must come first
import numpy as np
import slicer
from harness.application import Panel, Slicer
from harness.driving import click, process_events, wait_until
from harness.views import write_png

VIEW_SIZE = (420, 420)


def make_pictures(folder: Path) -> None:
    """Run the sample case through the panel and draw what a user then sees."""
    running = Slicer(VIEW_SIZE)
    import TumorQuery  # needs what the application brings

    panel = Panel(TumorQuery, "TumorQuery")
    panel.parent.resize(480, 1260)
    panel.parent.show()
    ui = panel.ui
    wait_until(lambda: "simulated" in ui.databaseInfoLabel.text, 120, lambda: ui.databaseInfoLabel.text)
    click(ui.loadSampleButton)
    click(ui.runButton)
    wait_until(lambda: ui.statusLabel.text == "Done.", 900, lambda: ui.logTextEdit.plainText)
    ui.showSurfacesCheckBox.checked = True
    process_events(0.5)
    slicer.util.resetThreeDViews()
    panel.parent.grab().save(str(folder / "slicer_panel.png"))
    layout = slicer.app.layoutManager()
    red, green, yellow = (layout.slice_views[name].pixels() for name in ("Red", "Green", "Yellow"))
    rows = np.hstack([red, layout.three_d_view.pixels()]), np.hstack([green, yellow])
    write_png(folder / "slicer_views.png", np.vstack(rows))
    panel.close()
    running.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as launcher:
        # As in the tests, PythonSlicer starts the interpreter as its child.
        script = Path(launcher) / "PythonSlicer"
        script.write_text(f'#!/bin/sh\nexec 3<&0\n"{sys.executable}" "$@" <&3 &\nwait $!\n', encoding="utf-8")
        script.chmod(0o755)
        os.environ["PATH"] = os.pathsep.join([launcher, os.environ["PATH"]])
        make_pictures(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "Resources" / "Screenshots")
