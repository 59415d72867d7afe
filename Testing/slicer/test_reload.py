"""The Reload button of developers, tried in a process of its own: the code that it replaces is everybody's else."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
MODULE = HERE.parents[1] / "TumorQuery"

RELOAD = """
import sys
import tempfile

sys.path[:0] = sys.argv[1:]
from harness.application import Panel, Slicer
from harness.driving import Guard, click, process_events

guard = Guard(tempfile.gettempdir()).__enter__()
running = Slicer()
import TumorQuery

panel = Panel(TumorQuery, "TumorQuery")
panel.parent.resize(480, 1300)
panel.parent.show()
process_events()
own = ("TumorQuery", "TumorQueryModule", "TumorQueryLib")
before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in own}
old = panel.widget
click(panel.ui.loadSampleButton)
panel.ui.topSpinBox.value = 7
panel.ui.fociComboBox.currentIndex = 2
old.onReload()
assert panel.widget is not old
for name in ("TumorQuery", "TumorQueryModule.Panel", "TumorQueryModule.Choices", "TumorQueryModule.Jobs"):
    assert sys.modules[name] is not before[name], name
choices, parameters = sys.modules["TumorQueryModule.Choices"], panel.widget._parameterNode
assert type(parameters) is choices.TumorQueryParameterNode
assert panel.widget.logic.moduleName == "TumorQuery"
assert panel.ui.topSpinBox.value == 7
assert parameters.foci is choices.Foci.Two
assert panel.ui.applyButton.enabled, panel.ui.applyButton.toolTip
panel.ui.topSpinBox.value = 9  # the new widgets lead the parameters
assert parameters.top == 9
assert old._parameterNode is None  # the old panel follows the scene no more
assert not guard.exceptions, guard.exceptions
print("reloaded")
panel.close()
running.close()
"""


@pytest.mark.slow
def test_developers_reload_takes_the_new_code_and_keeps_the_choices(python_slicer, tmp_path):
    import os

    environment = os.environ | {
        "PATH": os.pathsep.join([str(python_slicer), os.environ["PATH"]]),
        "TMPDIR": str(tmp_path),
    }
    run = subprocess.run(
        [sys.executable, "-c", RELOAD, str(HERE), str(MODULE), str(MODULE.parent)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    assert "reloaded" in run.stdout
