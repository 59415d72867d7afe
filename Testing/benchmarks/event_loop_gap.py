"""How long the panel's event loop stands still while the sample case runs.

    python Testing/benchmarks/event_loop_gap.py [--json FILE]

The longest gap between two turns of the loop, from the click on Run to the overlaid result, beside the longest gap of
the same loop with nothing to do, measured just before for `IDLE_SECONDS`.
"""

import argparse
import itertools
import json
import os
import stat
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
for folder in (REPOSITORY / "Testing" / "slicer", REPOSITORY / "TumorQuery", REPOSITORY):
    sys.path.insert(0, str(folder))

from harness.application import Panel, Slicer  # noqa: E402
from harness.driving import click, process_events  # noqa: E402
from harness.pythonqt import application  # noqa: E402

IDLE_SECONDS = 5.0


def turn_until(condition):
    """Turn the event loop until a condition holds; return the gaps between turns with their times, seconds."""
    import qt

    turns = []
    timer = qt.QTimer()
    timer.setInterval(5)
    timer.connect("timeout()", lambda: turns.append(time.monotonic()))
    timer.start()
    start = time.monotonic()
    while not condition(time.monotonic() - start):
        application().processEvents()
        time.sleep(0.001)
    timer.stop()
    return [(later - earlier, later - start) for earlier, later in itertools.pairwise(turns)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        launcher = Path(folder, "PythonSlicer")
        launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
        os.environ["PATH"] = os.pathsep.join([folder, os.environ["PATH"]])
        running = Slicer()
        import TumorQuery

        panel = Panel(TumorQuery, "TumorQuery")
        panel.parent.show()
        click(panel.ui.loadSampleButton)
        process_events(3.0)
        idle = turn_until(lambda elapsed: elapsed > IDLE_SECONDS)
        start = time.monotonic()
        click(panel.ui.runButton)
        busy = turn_until(lambda elapsed: panel.widget._run.state.value == "idle")
        figures = {
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "run_s": round(time.monotonic() - start, 1),
            "status": panel.ui.statusLabel.text,
            "longest_gap_s": round(max(gap for gap, _ in busy), 3),
            "longest_gap_at_s": round(max(busy)[1], 1),
            "longest_gaps_s": [round(gap, 3) for gap, _ in sorted(busy, reverse=True)[:5]],
            "longest_gap_idle_s": round(max(gap for gap, _ in idle), 3),
        }
        panel.close()
        running.close()
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
