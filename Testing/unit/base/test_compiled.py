"""Compiled code where nothing can be written beside the package or in the home folder."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(sys.modules["TumorQueryLib"].__file__).parent
SCRIPT = """
import numpy as np
from TumorQueryLib.base.resources import cache_folder
from TumorQueryLib.database.masks import encode_mask
print(encode_mask(np.ones((1, 2, 3), bool)).lengths.tolist())
print(cache_folder())
"""


@pytest.fixture
def read_only_package(tmp_path):
    """A copy of the package in which no __pycache__ can be made; modes would not stop an administrator."""
    package = tmp_path / "site" / "TumorQueryLib"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (package, *(path for path in package.rglob("*") if path.is_dir())):
        (folder / "__pycache__").write_text("a file, so no folder")
    return package.parent


def run(script, site, home, temporary):
    dropped = ("TUMORQUERY_CACHE", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    changed = {"PYTHONPATH": site, "HOME": home, "TMPDIR": temporary, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", script],
        env=kept | {key: str(value) for key, value in changed.items()},
        cwd=site,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="HOME and TMPDIR name the folders on Linux")
def test_a_read_only_installation_of_a_user_without_home_runs(read_only_package, tmp_path):
    no_home = tmp_path / "file"
    no_home.write_text("no folder")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    ran = run(SCRIPT, read_only_package, no_home / "home", temporary)
    assert ran.returncode == 0, ran.stderr
    runs, folder = ran.stdout.splitlines()
    assert runs == "[3, 3]"
    assert Path(folder) == temporary / f"tumorquery-{os.getuid()}"
    assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
    # The compiled code is there for the next process.
    assert list(Path(folder).rglob("masks._count_runs*.nbc"))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="HOME and TMPDIR name the folders on Linux")
@pytest.mark.parametrize("prepared", ["open to all", "a link"])
def test_code_is_not_loaded_from_a_folder_that_another_could_have_prepared(read_only_package, tmp_path, prepared):
    no_home = tmp_path / "file"
    no_home.write_text("no folder")
    temporary, trap = tmp_path / "temporary", tmp_path / "trap"
    temporary.mkdir()
    trap.mkdir(mode=0o700)
    folder = temporary / f"tumorquery-{os.getuid()}"
    if prepared == "a link":
        folder.symlink_to(trap)
    else:
        folder.mkdir()
        folder.chmod(0o777)
    ran = run(SCRIPT, read_only_package, no_home / "home", temporary)
    assert ran.returncode == 0, ran.stderr
    assert Path(ran.stdout.splitlines()[1]).parent == temporary
    assert list(folder.iterdir()) == []
    # What was made instead goes with the process.
    assert list(temporary.iterdir()) == [folder]
