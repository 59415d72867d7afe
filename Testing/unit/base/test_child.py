"""A job in a process of its own: it finds the library anywhere, and nothing is left where it cannot start."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import TumorQueryLib
from TumorQueryLib.base.child import Child, library_environment
from TumorQueryLib.base.errors import InputError, OutputError


def test_a_new_process_finds_this_library_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    # Without the site's packages an installed library is not found instead.
    call = [sys.executable, "-S", "-c", "import TumorQueryLib; print(TumorQueryLib.__file__)"]
    ran = subprocess.run(call, cwd=tmp_path, env=library_environment(), capture_output=True, encoding="utf-8")
    assert Path(ran.stdout.strip()).samefile(TumorQueryLib.__file__), ran.stderr


@pytest.mark.parametrize("fault", ["content", "program"])
def test_a_job_that_cannot_be_started_is_said_and_leaves_nothing(tmp_path, monkeypatch, fault):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    job = {"command": "info", "arguments": {}}
    if fault == "content":
        with pytest.raises(InputError, match="cannot be handed to a process"):
            Child(job | {"out": object()})
    else:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
        with pytest.raises(OutputError, match="cannot be started"):
            Child(job)
    assert list(tmp_path.iterdir()) == []
