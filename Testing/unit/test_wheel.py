"""An installed wheel works by itself: bundled data found, the demo runs in an empty environment."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def run(*command, **options):
    ran = subprocess.run([*map(str, command)], capture_output=True, encoding="utf-8", timeout=600, **options)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the files that the repository tracks, so that nothing else gets in."""
    source = tmp_path_factory.mktemp("source")
    tracked = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, tracked):
        if (ROOT / name).is_file() and name.startswith(
            ("TumorQueryLib/", "Resources/", "pyproject", "setup.py", "README", "LICENSE")
        ):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_library_and_its_data(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in (ROOT / "TumorQueryLib", ROOT / "Resources"):
        for name in filter(None, run("git", "ls-files", "-z", folder, cwd=ROOT).split("\0")):
            shipped = name.endswith(
                (".py", ".h5", ".nrrd", ".nii.gz", ".json", ".txt", ".safetensors", ".npz", "SHA256SUMS")
            )
            if not shipped or name.startswith("Resources/Screenshots") or name.endswith("CMakeLists.txt"):
                continue
            place = name if name.startswith("TumorQueryLib/") else f"TumorQueryLib/{name}"
            assert place in names, place
    assert not [name for name in names if "__pycache__" in name or name.startswith("Testing")]


def test_the_demo_runs_from_a_wheel_in_an_empty_environment(wheel, tmp_path):
    home = tmp_path / "environment"
    venv.create(home, with_pip=True)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TUMORQUERY"))}
    environment["TUMORQUERY_CACHE"] = str(tmp_path / "cache")
    constraints = ROOT / "Testing" / "constraints.txt"
    installed = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(constraints), str(wheel)],
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        env=environment,
    )
    if installed.returncode != 0 and "No matching distribution" in installed.stderr:
        pytest.skip("needs a package index to install the wheel's dependencies from")
    assert installed.returncode == 0, installed.stderr
    where = run(
        python,
        "-c",
        "import TumorQueryLib.base.resources as r; print(r.resources_folder())",
        cwd=tmp_path,
        env=environment,
    )
    assert Path(where.strip()).is_relative_to(home)
    out = tmp_path / "demo"
    said = run(python, "-m", "TumorQueryLib", "demo", "--out", out, cwd=tmp_path, env=environment)
    assert "Best match" in said
    assert {"result.json", "density.nrrd", "report.png"} <= {path.name for path in out.iterdir()}
