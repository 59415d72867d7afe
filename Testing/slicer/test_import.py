"""The module loads without the packages that the worker needs, and says which will be installed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
MODULE = HERE.parents[1] / "TumorQuery"
CODE = sorted(path for path in MODULE.rglob("*.py") if "Testing" not in path.parts)
# What the Extensions Index allows at file scope, beside the standard library.
ALLOWED = {"slicer", "vtk", "qt", "ctk", "SimpleITK", "numpy", "scipy", "TumorQueryModule"}

WITHOUT_PACKAGES = """
import sys

BLOCKED = {"numba", "h5py", "torch", "radiomics", "matplotlib", "platformdirs"}


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


sys.meta_path.insert(0, Blocker())
sys.path[:0] = sys.argv[1:]
from harness.application import Panel, Slicer

running = Slicer()
running.packaging.absent = {"numba", "h5py"}
import TumorQuery

panel = Panel(TumorQuery, "TumorQuery")
print(panel.ui.dependenciesLabel.text)
assert panel.ui.dependenciesLabel.isVisibleTo(panel.parent)
assert not BLOCKED & set(sys.modules), BLOCKED & set(sys.modules)
panel.close()
running.close()
"""


@pytest.mark.slow
def test_the_module_opens_without_the_workers_packages():
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGES, str(HERE), str(MODULE), str(MODULE.parent)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for name in ("numba", "h5py"):
        assert name in run.stdout


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.name)
def test_only_slicers_own_packages_are_imported_at_file_scope(path):
    imported = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported - ALLOWED <= sys.stdlib_module_names
