"""Fixtures of the panel's tests, and what is checked after every one of them."""

import os
import sys
from pathlib import Path

import pytest
from harness.rendering import missing_packages, reason_not_to_draw  # and how is drawn

pytest.register_assert_rewrite("harness.driving")

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent

for folder in (HERE, REPOSITORY / "TumorQuery", REPOSITORY):
    sys.path.insert(0, str(folder))

#: Files whose tests take longest: those of whole runs.
LONGEST = (
    *("test_sample_run.py", "test_panel.py", "test_patients.py", "test_plans.py", "test_dicom_run.py"),
    "test_without_window.py",
)


def on_ci():
    return os.environ.get("CI", "").lower() in ("true", "1")


if missing_packages() and on_ci():
    raise pytest.UsageError(f"the panel's tests need {' and '.join(missing_packages())} (group slicer-test)")


def pytest_pycollect_makemodule(module_path, parent):
    """Skip every module of tests by its name where the packages are missing."""
    if not missing_packages():
        return None

    class SkippedModule(pytest.Module):
        def collect(self):
            pytest.skip(f"needs {' and '.join(missing_packages())} (group slicer-test)", allow_module_level=True)

    return SkippedModule.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(items):
    """The longest files first: of two processes neither is left alone with one of them at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def thinned_sample(tmp_path_factory):
    """The sample case at every second voxel: its runs take most of the time."""
    if missing_packages():
        yield
        return
    from thinned_sample import write_thinned_sample

    folder = write_thinned_sample(tmp_path_factory.mktemp("bundled") / "resources")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUMORQUERY_RESOURCES", str(folder))
        yield


@pytest.fixture(scope="session")
def rendering():
    """Skip where nothing can be drawn off screen; on continuous integration that is a failure, under Linux."""
    reason = reason_not_to_draw()
    if reason and on_ci() and sys.platform.startswith("linux"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason.partition(":")[0])


@pytest.fixture(scope="session")
def python_slicer(tmp_path_factory):
    """A folder with PythonSlicer: like Slicer's, a launcher that starts the interpreter as its child."""
    folder = tmp_path_factory.mktemp("launcher")
    if os.name == "nt":
        (folder / "PythonSlicer.bat").write_text(f'@"{sys.executable}" %*\n')
        return folder
    launcher = folder / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\nexec 3<&0\n"{sys.executable}" "$@" <&3 &\nwait $!\n')
    launcher.chmod(0o755)
    return folder


@pytest.fixture
def guard(tmp_path):
    from harness.driving import Guard

    folder = tmp_path / "tmp ümläut"
    folder.mkdir()
    with Guard(folder) as guard:
        yield guard


@pytest.fixture
def running(guard, python_slicer, monkeypatch):
    """The application with an empty scene."""
    from harness.application import Slicer

    monkeypatch.setenv("PATH", os.pathsep.join([str(python_slicer), os.environ["PATH"]]))
    slicer = Slicer()
    yield slicer
    slicer.close()
    guard.check()
    assert not slicer.dialogs.shown, f"dialogs that the test did not expect: {slicer.dialogs.shown}"


@pytest.fixture
def panel(running):
    """The opened panel."""
    from harness.application import Panel
    from harness.driving import process_events

    import TumorQuery

    panel = Panel(TumorQuery, "TumorQuery")
    panel.parent.resize(480, 1300)
    panel.parent.show()
    process_events()
    yield panel
    panel.close()


@pytest.fixture
def take(panel, tmp_path):
    """Load a result written by hand as the panel does at the end of a run; gives its nodes."""
    from known_result import taker

    return taker(panel, tmp_path)
