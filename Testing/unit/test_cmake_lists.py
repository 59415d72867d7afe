"""The extension's CMake files name every file that ships, and the build puts each where Slicer looks for it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = ROOT / "Testing" / "slicer" / "cmake"
MODULES_FOLDER = Path("lib/Slicer-5.12/qt-scripted-modules")


def cmake_list(folder: str, name: str) -> list[str]:
    text = (ROOT / folder / "CMakeLists.txt").read_text(encoding="utf-8")
    module = re.search(r"set\(MODULE_NAME (\w+)\)", text)[1]
    body = re.search(rf"set\({name}\n(.*?)\n  \)", text, re.DOTALL)[1]
    return [line.strip().replace("${MODULE_NAME}", module) for line in body.splitlines()]


def files_below(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    )


@pytest.mark.parametrize("folder", ["TumorQuery", "TumorQueryLib"])
def test_every_python_file_is_listed(folder):
    assert sorted(cmake_list(folder, "MODULE_PYTHON_SCRIPTS")) == files_below(ROOT / folder, "*.py")


def test_every_resource_of_the_module_is_listed():
    on_disk = [f"Resources/{file}" for file in files_below(ROOT / "TumorQuery" / "Resources")]
    assert sorted(cmake_list("TumorQuery", "MODULE_PYTHON_RESOURCES")) == on_disk


def test_requirements_are_the_project_s_without_what_slicer_brings():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    body = re.search(r"^dependencies = \[\n(.*?)\n\]", project, re.DOTALL | re.MULTILINE)[1]
    needed = {line.strip(' ",') for line in body.splitlines()}
    bundled = {line for line in needed if re.split(r"[<>=]", line)[0] in ("numpy", "scipy", "SimpleITK")}
    listed = (ROOT / "TumorQuery" / "Resources" / "requirements.txt").read_text(encoding="utf-8").split()
    assert len(bundled) == 3
    assert sorted(listed) == sorted(needed - bundled)


def test_entry_of_the_extensions_index():
    entry = json.loads((ROOT / "TumorQuery.json").read_text(encoding="utf-8"))
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.search(r"^project\((\w+)\)", cmake, re.MULTILINE)[1] == "TumorQuery"
    depends = re.search(r"set\(EXTENSION_DEPENDS ([\w ]+)\)", cmake)[1].split()
    assert entry["build_dependencies"] == depends
    homepage = re.search(r'set\(EXTENSION_HOMEPAGE "(.*?)"\)', cmake)[1]
    assert entry["scm_url"] == f"{homepage}.git"
    assert set(entry) <= {
        *("$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies", "build_subdirectory"),
        *("enabled", "tier"),
    }


@pytest.fixture(scope="module")
def metadata():
    """What the extension says of itself, by name without EXTENSION_."""
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return dict(re.findall(r'^set\(EXTENSION_(\w+) "(.*)"\)', cmake, re.MULTILINE))


def test_pictures_of_the_extension_are_in_the_project(metadata):
    """By addresses that give the files themselves, which the index downloads."""
    pictures = {kind: metadata[f"{kind}URL{'S' * (kind != 'ICON')}"].split() for kind in ("ICON", "SCREENSHOT")}
    assert [len(urls) for urls in pictures.values()] == [1, 2]
    raw = metadata["HOMEPAGE"].replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"
    for url in (*pictures["ICON"], *pictures["SCREENSHOT"]):
        assert url.startswith(raw)
        assert (ROOT / url.removeprefix(raw)).read_bytes().startswith(b"\x89PNG"), url


def test_description_of_the_extension(metadata):
    """One or two sentences; who made it and where it is listed is said alike everywhere."""
    assert len(re.findall(r"\.(?: |$)", metadata["DESCRIPTION"])) <= 2
    assert "not a medical device" in metadata["DESCRIPTION"]
    assert metadata["CONTRIBUTORS"] == "TumorQuery contributors"
    module = (ROOT / "TumorQuery" / "TumorQuery.py").read_text(encoding="utf-8")
    assert f'contributors = ["{metadata["CONTRIBUTORS"]}"]' in module
    category = json.loads((ROOT / "TumorQuery.json").read_text(encoding="utf-8"))["category"]
    assert f'translate("qSlicerAbstractCoreModule", "{category}")' in module
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'authors = [{{ name = "{metadata["CONTRIBUTORS"]}" }}]' in project
    assert '"3D Slicer"' in re.search(r"^keywords = \[(.*)\]", project, re.MULTILINE)[1]


@pytest.fixture(scope="module")
def cmake():
    pytest.importorskip("cmake", reason="the PyPI package cmake (group slicer-test of pyproject.toml) is not installed")
    from cmake import CMAKE_BIN_DIR

    if not (shutil.which("cc") or shutil.which("gcc") or shutil.which("cl")):
        pytest.skip("CMake finds no C compiler, which project() asks for")
    return Path(CMAKE_BIN_DIR)


@pytest.fixture(scope="module")
def installed(cmake, tmp_path_factory):
    """The extension, configured, built and installed against the stand-in for Slicer."""
    folder = tmp_path_factory.mktemp("extension")
    build, prefix = folder / "build", folder / "installed"
    for command in (
        ["cmake", "-S", ROOT, "-B", build, f"-DSlicer_DIR={STAND_IN}", "-DBUILD_TESTING=ON"],
        ["cmake", "--build", build],
        ["cmake", "--install", build, "--prefix", prefix],
    ):
        subprocess.run(
            [cmake / command[0], *command[1:]], check=True, capture_output=True, encoding="utf-8", timeout=300
        )
    return build, prefix / MODULES_FOLDER


@pytest.mark.slow
def test_installed_tree_holds_every_file(installed):
    modules = installed[1]
    expected = [f"TumorQueryLib/{file}" for file in files_below(ROOT / "TumorQueryLib", "*.py")]
    expected += [
        *(file for file in files_below(ROOT / "TumorQuery", "*.py")),
        *(f"Resources/{file}" for file in files_below(ROOT / "TumorQuery" / "Resources")),
    ]
    for folder in ("Atlas", "Databases", "Models", "SampleData"):
        expected += [f"TumorQueryLib/Resources/{folder}/{file}" for file in files_below(ROOT / "Resources" / folder)]
    assert files_below(modules) == sorted(expected)


@pytest.mark.slow
def test_tests_in_slicer_are_registered(installed, cmake):
    listed = subprocess.run(
        [cmake / "ctest", "--test-dir", installed[0], "-N"],
        check=True,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    ).stdout
    assert re.findall(r"Test +#\d+: (\S+)", listed) == ["py_TumorQuery", "py_TumorQueryLibraryTest", "py_batch"]


@pytest.mark.slow
def test_installed_tree_infers(installed, tmp_path):
    modules = installed[1]
    sample = modules / "TumorQueryLib" / "Resources" / "SampleData"
    patient = ["--t1gd", sample / "t1gd.nii.gz", "--segmentation", sample / "segmentation.nii.gz"]
    method = ["--labels", "brats2018", "--registration", "affine", "--refine", "none"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TUMORQUERY_")}
    environment["PYTHONPATH"] = str(modules)
    ended = subprocess.run(
        [sys.executable, "-m", "TumorQueryLib", "infer", *patient, *method, "--out", tmp_path / "result"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=850,
    )
    assert ended.returncode == 0, ended.stderr
    result = json.loads((tmp_path / "result" / "result.json").read_text(encoding="utf-8"))
    assert result["estimates"][result["chosen"]]["fit"]["dice_whole"] > 0.5
    used = subprocess.run(
        [
            sys.executable,
            "-c",
            "from TumorQueryLib.base import resources as r; print(r.__file__, r.resources_folder(), sep=chr(10))",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout.split()
    library = modules / "TumorQueryLib"
    assert used == [str(library / "base" / "resources.py"), str(library / "Resources")]
