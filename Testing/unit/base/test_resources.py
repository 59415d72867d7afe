"""Where the bundled data are found, and in which order."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.base.resources import cache_folder, resources_folder

PACKAGE = Path(sys.modules["TumorQueryLib"].__file__).parent


def folder_in_a_new_process(package_parent: Path, **environment: str) -> subprocess.CompletedProcess:
    """What `resources_folder` says for a package somewhere else."""
    clean = {key: value for key, value in os.environ.items() if key != "TUMORQUERY_RESOURCES"}
    return subprocess.run(
        [sys.executable, "-c", "from TumorQueryLib.base.resources import resources_folder; print(resources_folder())"],
        env=clean | {"PYTHONPATH": str(package_parent), "PYTHONIOENCODING": "utf-8"} | environment,
        cwd=package_parent,
        capture_output=True,
        encoding="utf-8",
    )


@pytest.fixture
def elsewhere(tmp_path):
    """The package alone, without data, in a folder with a name beyond ASCII."""
    parent = tmp_path / "Größe 脳"
    (parent / "TumorQueryLib").mkdir(parents=True)
    shutil.copy(PACKAGE / "__init__.py", parent / "TumorQueryLib")
    shutil.copytree(PACKAGE / "base", parent / "TumorQueryLib" / "base")
    return parent


def test_the_order_is_environment_package_checkout(elsewhere, tmp_path):
    checkout = elsewhere / "Resources"
    (checkout / "Atlas").mkdir(parents=True)
    assert folder_in_a_new_process(elsewhere).stdout.strip() == str(checkout)
    installed = elsewhere / "TumorQueryLib" / "Resources"
    (installed / "Atlas").mkdir(parents=True)
    assert folder_in_a_new_process(elsewhere).stdout.strip() == str(installed)
    named = tmp_path / "named"
    (named / "Atlas").mkdir(parents=True)
    assert folder_in_a_new_process(elsewhere, TUMORQUERY_RESOURCES=str(named)).stdout.strip() == str(named)


def test_missing_data_are_said_with_what_to_do(elsewhere):
    done = folder_in_a_new_process(elsewhere)
    assert done.returncode != 0
    assert "Install TumorQuery again, or set TUMORQUERY_RESOURCES" in done.stderr


def test_a_variable_that_names_another_folder_is_said_and_not_passed_over(monkeypatch, tmp_path):
    monkeypatch.setenv("TUMORQUERY_RESOURCES", str(tmp_path))
    with pytest.raises(InputError, match=r"TUMORQUERY_RESOURCES names .* which holds no folder 'Atlas'"):
        resources_folder()


def test_the_cache_is_the_users_and_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("TUMORQUERY_CACHE", str(tmp_path / "cache" / "deep"))
    assert cache_folder() == tmp_path / "cache" / "deep"
    assert cache_folder().is_dir()
    monkeypatch.delenv("TUMORQUERY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform.startswith("linux"):
        assert cache_folder() == tmp_path / "xdg" / "TumorQuery"
    assert resources_folder() not in cache_folder().parents


def test_a_named_cache_that_cannot_be_made_is_told(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUMORQUERY_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match=r"cannot be made .* TUMORQUERY_CACHE"):
        cache_folder()
