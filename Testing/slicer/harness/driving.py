"""How a test drives the panel, and what it checks afterwards."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import vtk
from PySide6 import QtCore, QtTest, QtWidgets

from harness.pythonqt import application

# vtkMRMLSubjectHierarchyNode.cxx finds its items by the address of their node, and says this, before it looks again,
# where a new node lies at the address of one that a closed scene has deleted.
TOLERATED_VTK_ERROR = "DataNodeCache inconsistency found"


class Guard:
    """Collects what must not happen while a test runs: exceptions in slots, VTK errors, files and processes left."""

    def __init__(self, folder):
        self.folder = folder
        self.exceptions = []

    def __enter__(self):
        self.previous = (sys.excepthook, sys.unraisablehook, tempfile.tempdir, vtk.vtkOutputWindow.GetInstance())
        sys.excepthook = lambda kind, error, trace: self.exceptions.append(error)
        sys.unraisablehook = lambda raised: self.exceptions.append(raised.exc_value)
        tempfile.tempdir = str(self.folder)
        self.messages = vtk.vtkStringOutputWindow()
        vtk.vtkOutputWindow.SetInstance(self.messages)
        return self

    def __exit__(self, *raised):
        sys.excepthook, sys.unraisablehook, tempfile.tempdir, output_window = self.previous
        vtk.vtkOutputWindow.SetInstance(output_window)

    def check(self):
        assert not self.exceptions, f"exceptions in slots or observers: {self.exceptions!r}"
        entries = self.messages.GetOutput().split("\n\n")
        errors = [entry.strip() for entry in entries if entry.strip().startswith("ERROR:")]
        assert [entry for entry in errors if TOLERATED_VTK_ERROR not in entry] == []
        assert left_files(self.folder) == []
        assert child_processes() == []


def left_files(folder):
    """What the code under test left in the temporary folder."""
    return sorted(path.name for path in Path(folder).iterdir() if not path.name.startswith("slicer-"))


def child_processes(parent=None):
    """Ids of all processes below one (this one by default) that have not ended.

    Python's own resource tracker, which multiprocessing leaves behind in other tests, is not counted.
    """
    listed = processes_of_linux() if sys.platform.startswith("linux") else processes_elsewhere()
    parents = {
        process: owner
        for process, owner, state, command in listed
        if state[:1] != "Z" and "multiprocessing.resource_tracker" not in command
    }
    found, below = [], {os.getpid() if parent is None else parent}
    while below:
        below = {child for child, owner in parents.items() if owner in below}
        found += below
    return sorted(found)


def processes_of_linux():
    """Id, parent's id, state and command line of every process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            yield int(entry.name), int(fields[1]), fields[0], command.decode(errors="replace")


#: What lists a process in a line: id, parent's id, state, where there is one, and command line.
LISTING = ["ps", "-A", "-o", "pid=,ppid=,stat=,command="]
LISTING_OF_WINDOWS = [
    "powershell",
    "-NoProfile",
    "-Command",
    "Get-CimInstance Win32_Process | "
    "ForEach-Object { '{0} {1} - {2}' -f $_.ProcessId, $_.ParentProcessId, $_.CommandLine }",
]


def processes_elsewhere():
    """The same, by the system's own program, which is not listed itself."""
    listing = LISTING_OF_WINDOWS if os.name == "nt" else LISTING
    with subprocess.Popen(listing, stdout=subprocess.PIPE, text=True, errors="replace") as program:
        lines = program.communicate()[0].splitlines()
    for line in lines:
        process, owner, state, *command = [*line.split(maxsplit=3), "", "", ""]
        if process.isdigit() and int(process) != program.pid:
            yield int(process), int(owner), state, command[0]


def process_events(seconds=0.0):
    """Run the event loop, as the application does, for a while."""
    deadline = time.monotonic() + seconds
    while True:
        application().processEvents()
        if time.monotonic() >= deadline:
            return
        time.sleep(0.002)


def wait_until(condition, timeout, describe=lambda: ""):
    """Run the event loop until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        process_events(0.01)
        assert time.monotonic() < deadline, f"waited {timeout} s in vain: {describe()}"


def click(button):
    """Click a button as a user does: with the mouse, and only where it can be clicked."""
    assert button.isVisible(), f"{button.name} is not visible"
    assert button.enabled, f"{button.name} is disabled: {button.toolTip}"
    # A check box takes clicks on its mark and its text only.
    place = QtCore.QPoint(8, button.height // 2) if isinstance(button, QtWidgets.QCheckBox) else QtCore.QPoint()
    QtTest.QTest.mouseClick(button, QtCore.Qt.LeftButton, QtCore.Qt.NoModifier, place)
