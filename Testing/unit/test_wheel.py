"""Wheel and source distribution hold what they should, and an installed wheel works by itself: bundled data are found,
an inference runs with nothing but what it asks for.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def run(*command, **options):
    ran = subprocess.run([*map(str, command)], capture_output=True, encoding="utf-8", timeout=600, **options)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the files that the repository tracks, so that nothing else gets into what is built."""
    source = tmp_path_factory.mktemp("source")
    for name in filter(None, run("git", "ls-files", "-z", cwd=ROOT).split("\0")):
        if (ROOT / name).is_file() and ("/" not in name or name.startswith(("TumorQueryLib/", "Resources/"))):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    return source


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def source_distribution(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, folder, cwd=source)
    (path,) = folder.glob("*.tar.gz")
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
    assert not [
        name for name in names if "__pycache__" in name or not name.startswith(("TumorQueryLib/", "tumorquery-"))
    ]
    assert {name.rpartition(".")[2] for name in names if name.startswith("TumorQueryLib/")} <= {
        *("py", "typed", "gz", "nrrd", "h5", "json", "npz", "safetensors", "txt", "md"),
        *(name for name in names if name.endswith("SHA256SUMS")),
    }


def test_the_wheel_is_small_enough_for_an_index(wheel):
    assert wheel.stat().st_size < 45e6


def test_the_source_distribution_holds_what_the_wheel_is_made_of(source_distribution, wheel):
    with tarfile.open(source_distribution) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("TumorQueryLib/")}
    assert shipped <= {f"TumorQueryLib/{name}" if name.startswith("Resources/") else name for name in names}
    assert {
        "pyproject.toml",
        "setup.py",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CITATION.cff",
        "SECURITY.md",
    } <= names
    assert not [name for name in names if name.startswith(("Testing", ".", "docs", "Resources/Screenshots"))]
    assert source_distribution.stat().st_size < 45e6


def test_the_package_says_what_an_index_shows(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        found = Metadata.from_email(archive.read(name), validate=True)
    assert found.name == "tumorquery"
    assert found.author == "TumorQuery contributors"
    assert found.author_email is None
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= set(found.project_urls)
    assert found.keywords
    assert "Typing :: Typed" in found.classifiers
    assert found.license_expression == "MIT AND CC-BY-SA-3.0"
    assert found.description_content_type == "text/markdown"
    # What the README links to lies in the repository, where an index cannot follow a path.
    links = re.findall(r"\]\(([^)]+)\)", found.description)
    assert len(links) > 10
    assert not [link for link in links if not link.startswith("https://")]


#: In a venv's folder of packages: modules that are not there.
ABSENT = """
import sys

class Absent:
    def find_spec(name, path=None, target=None):
        if name in {names}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Absent)
"""


def asked_for(distribution):
    """Normalised names of what a distribution needs, without its extras, and of what that needs in turn."""
    found, waiting = set(), [distribution]
    while waiting:
        for line in metadata.requires(waiting.pop()) or ():
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                found.add(name)
                waiting.append(name)
    return found


def test_a_wheel_in_an_environment_of_its_own_infers_with_what_it_asks_for(wheel, tmp_path):
    """Its dependencies are lent by the tests' environment, of which nothing else is seen."""
    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TUMORQUERY"))}
    environment["TUMORQUERY_CACHE"] = str(tmp_path / "cache")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile", "--no-deps")
    run(*pip, "--no-index", wheel, env=environment)
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", place, env=environment).strip())
    asked = asked_for("tumorquery")
    owners = metadata.packages_distributions()
    names = {name for name, owned in owners.items() if not asked & {canonicalize_name(owner) for owner in owned}}
    assert {"pytest", "coverage"} <= names
    (site / "absent.py").write_text(ABSENT.format(names=sorted(names - {"TumorQueryLib"})), encoding="utf-8")
    # The .pth files of that folder are not read again: no editable TumorQuery.
    (site / "lent.pth").write_text(f"import absent\n{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    place = "import TumorQueryLib.base.resources as r; print(r.resources_folder())"
    resources = Path(run(python, "-c", place, cwd=tmp_path, env=environment).strip())
    assert resources.is_relative_to(home)
    sample = resources / "SampleData"
    patient = [word for role in ("t1gd", "flair", "segmentation") for word in (f"--{role}", sample / f"{role}.nii.gz")]
    method = ("--labels", "brats2018", "--no-align", "--registration", "none", "--refine", "none")
    out = tmp_path / "result"
    said = run(python, "-m", "TumorQueryLib", "infer", *patient, *method, "--out", out, cwd=tmp_path, env=environment)
    assert "Best match" in said
    assert {"result.json", "density.nrrd", "report.png"} <= {path.name for path in out.iterdir()}
