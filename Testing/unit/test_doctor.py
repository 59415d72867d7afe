"""`tumorquery doctor`: what a stranger pastes into a bug report says what is wrong, and not who they are."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.base.resources import cache_folder, resources_folder
from TumorQueryLib.cli import main
from TumorQueryLib.doctor import OPTIONAL, REQUIRED, compiled_code_folder, examine, optional_packages, private_path
from TumorQueryLib.growth import kernels
from TumorQueryLib.strategies.models import bundled_sum

ROOT = Path(__file__).resolve().parents[2]


def wrong() -> dict[str, str]:
    return {finding.topic: f"{finding.said}. {finding.remedy}" for finding in examine() if finding.remedy is not None}


def listed_in_pyproject(name: str) -> dict[str, str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    body = re.search(rf"^{name} = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)[1]
    return dict(re.findall(r'"([\w-]+)>=([\d.]+)"', body))


def test_what_is_needed_is_what_pyproject_asks_for():
    assert listed_in_pyproject("dependencies") == REQUIRED


def test_every_package_of_an_extra_says_what_it_is_for():
    extras = {name: extra for name, (extra, _) in optional_packages().items()}
    expected = {
        package: extra
        for extra in ("learned", "radiomics", "distributed", "dicom")
        for package in listed_in_pyproject(extra)
    }
    assert extras == expected
    assert set(OPTIONAL) < set(extras)


def test_every_bundled_data_file_is_listed_with_its_sum():
    """What doctor compares with: the lists that ship are those of the tree."""
    resources = ROOT / "Resources"
    for folder in ("Atlas", "Databases", "Models", "SampleData"):
        lines = (resources / folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        listed = {name: digest for digest, name in (line.split() for line in lines)}
        files = (path for path in (resources / folder).rglob("*") if path.is_file())
        data = [path for path in files if path.suffix not in (".md", ".txt") and path.name != "SHA256SUMS"]
        sums = {
            path.relative_to(resources / folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in data
        }
        assert listed == sums, folder


def test_this_installation_is_in_order(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for line in (r"^TumorQuery +0\.", r"^numpy +\d", r"^cores +\d+ of \d+", r"^memory +\d", r"^cache +\S", r"^torch +"):
        assert re.search(line, said, re.MULTILINE), line
    sums = {finding.topic: finding.said for finding in examine()}
    starter = hashlib.sha256((resources_folder() / "Databases" / "starter.h5").read_bytes()).hexdigest()
    assert sums["Databases/starter.h5"] == f"sha256 {starter[:16]}"


@pytest.fixture
def copied_resources(tmp_path, monkeypatch):
    folder = tmp_path / "resources"
    shutil.copytree(resources_folder(), folder)
    monkeypatch.setenv("TUMORQUERY_RESOURCES", str(folder))
    return folder


def test_a_damaged_and_a_missing_file_are_named(copied_resources, capsys):
    path = copied_resources / "Atlas" / "SRI24" / "wm.nii.gz"
    path.write_bytes(path.read_bytes()[:-1])
    (copied_resources / "SampleData" / "flair.nii.gz").unlink()
    (copied_resources / "Models" / "SHA256SUMS").unlink()
    assert set(wrong()) == {"Atlas/SRI24/wm.nii.gz", "SampleData/flair.nii.gz", "Models/SHA256SUMS"}
    assert main(["doctor"]) == 2
    said = capsys.readouterr()
    assert re.search(r"^Atlas/SRI24/wm.nii.gz +WRONG: sha256 \w+ where \w+ was shipped. Install", said.out, re.M)
    assert "not in order: Atlas/SRI24/wm.nii.gz, Models/SHA256SUMS, SampleData/flair.nii.gz." in said.err


@pytest.mark.parametrize("damage", [b"\n\n", b"\xff\xfe", b"a line of a merge\n"])
def test_a_damaged_list_of_sums_is_named(copied_resources, damage):
    listed = copied_resources / "Models" / "SHA256SUMS"
    listed.write_bytes(listed.read_bytes() + damage)
    assert wrong() == {"Models/SHA256SUMS": "damaged. Install TumorQuery again."}
    with pytest.raises(InputError, match="cannot be checked, since SHA256SUMS beside it cannot be read"):
        bundled_sum(listed.with_name("SRI24-ae.safetensors"))


def test_no_bundled_data_at_all_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TUMORQUERY_RESOURCES", str(tmp_path))
    assert list(wrong()) == ["bundled data"]


def test_a_package_that_is_missing_or_too_old_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(REQUIRED, "numpy", "999")
    monkeypatch.setitem(REQUIRED, "no-such-package", "1")
    found = wrong()
    assert set(found) == {"numpy", "no-such-package"}
    assert found["numpy"].endswith('--upgrade "numpy>=999"')


def test_a_cache_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUMORQUERY_CACHE", str(tmp_path / "file" / "cache"))
    assert "TUMORQUERY_CACHE" in wrong()["cache"]
    with pytest.raises(OutputError):
        cache_folder()


@pytest.fixture
def locked_folder(tmp_path):
    """A folder that may not be searched: root, who may search all, is another user meanwhile."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders of POSIX are locked by their mode")
@pytest.mark.parametrize(
    ("variable", "topic"),
    [
        ("NUMBA_CACHE_DIR", "compiled code"),
        ("TUMORQUERY_CACHE", "cache"),
        ("TUMORQUERY_RESOURCES", "bundled data"),
    ],
)
def test_a_folder_that_may_not_be_searched_is_told(locked_folder, monkeypatch, variable, topic):
    for folder in (locked_folder, locked_folder / "below"):
        monkeypatch.setenv(variable, str(folder))
        told = wrong()[topic]
        assert re.search("cannot be (read|written|made)", told)
        assert variable in told


def test_the_folder_of_compiled_code_is_numba_s(monkeypatch):
    compiled = next(value for value in vars(kernels).values() if hasattr(value, "stats"))
    assert compiled_code_folder() == Path(compiled.stats.cache_path)


def test_neither_the_user_nor_the_home_folder_is_shown(tmp_path):
    home = tmp_path / "jdoe"
    home.mkdir()
    environment = os.environ | {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "TUMORQUERY_CACHE": str(home / "cache"),
        "NUMBA_CACHE_DIR": str(tmp_path / "scratch" / "jdoe" / "code"),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", "TumorQueryLib", "doctor"], env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert str(Path("~", "cache")) in done.stdout
    assert str(tmp_path / "scratch" / "USER" / "code") in done.stdout
    assert "jdoe" not in done.stdout


def test_what_is_wrong_with_a_folder_names_no_user_either(tmp_path):
    home = tmp_path / "Jane Doe"
    home.mkdir()
    (home / "file").touch()
    places = {"HOME": home, "USERPROFILE": home, "TUMORQUERY_CACHE": home / "file" / "cache", "PYTHONPATH": ROOT}
    environment = os.environ | {name: str(place) for name, place in places.items()}
    done = subprocess.run(
        [sys.executable, "-m", "TumorQueryLib", "doctor"], env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 2
    assert f"The cache folder {Path('~', 'file', 'cache')} cannot be made" in done.stdout
    assert "Doe" not in done.stdout


def test_a_path_outside_the_home_stays_as_it_is(tmp_path):
    assert private_path(tmp_path / "file") == str(tmp_path / "file")


def test_it_works_where_the_packages_that_it_examines_do_not():
    code = (
        "import sys\n"
        "for name in ('numpy', 'scipy', 'SimpleITK', 'h5py', 'numba', 'matplotlib', 'pydicom', 'torch'):\n"
        "    sys.modules[name] = None\n"
        "from TumorQueryLib.doctor import examine\n"
        "print(len(examine()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30
