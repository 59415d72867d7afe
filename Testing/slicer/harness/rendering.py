"""Whether the harness can run and draw here."""

import importlib.util
import subprocess
import sys

RENDERS = """
import vtk
window = vtk.vtkRenderWindow()
window.SetOffScreenRendering(1)
window.SetSize(8, 8)
window.AddRenderer(vtk.vtkRenderer())
window.Render()
print(window.ReportCapabilities())
"""


def missing_packages():
    return [name for name in ("slicer_core", "PySide6") if importlib.util.find_spec(name) is None]


def reason_not_to_draw():
    """Why nothing can be drawn off screen, by a process of its own, which VTK may end; empty where it can.

    What is drawn is compared on Linux alone, where software draws it (EGL).
    """
    if not sys.platform.startswith("linux"):
        return "pictures are compared on Linux only"
    run = subprocess.run([sys.executable, "-c", RENDERS], capture_output=True, text=True, timeout=120, check=False)
    if run.returncode == 0 and "OpenGL" in run.stdout:
        return ""
    reason = "off-screen rendering (EGL) does not work here; scripts/install_rendering_libraries.sh says what it needs"
    return f"{reason}: {run.stderr[-500:]}"
