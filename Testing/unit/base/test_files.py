"""Results appear whole or not at all."""

import os
import subprocess
import sys

import pytest

from TumorQueryLib.base.errors import OutputError
from TumorQueryLib.base.files import staged_folder, write_json


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_files_appear_when_the_block_ends(tmp_path):
    target = tmp_path / "a" / "b"
    with staged_folder(target) as stage:
        write_json({"x": 1}, stage / "result.json")
        (stage / "inner").mkdir()
        (stage / "inner" / "y.txt").write_text("y")
        assert not (target / "result.json").exists()
    assert listing(target) == ["inner", "inner/y.txt", "result.json"]


def test_an_exception_leaves_nothing_and_keeps_what_was_there(tmp_path):
    new = tmp_path / "new" / "deep"
    old = tmp_path / "old"
    old.mkdir()
    (old / "result.json").write_text("before")
    for target in (new, old):
        with pytest.raises(ZeroDivisionError), staged_folder(target) as stage:  # noqa: PT012
            (stage / "result.json").write_text("half")
            raise ZeroDivisionError
    assert listing(tmp_path) == ["old", "old/result.json"]
    assert (old / "result.json").read_text() == "before"


@pytest.mark.parametrize("failing", range(6))
def test_a_file_that_cannot_be_moved_keeps_what_was_there(tmp_path, monkeypatch, failing):
    """As one that a viewer keeps open on Windows: two files are replaced, one goes, and two are new."""
    before = {"a.txt": "before", "b.txt": "before", "gone.txt": "before", "mine.txt": "mine"}
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    real, moves = os.replace, iter(range(100))

    def refused_once(source, place):
        if next(moves) == failing:
            raise PermissionError(13, "in use", str(place))
        real(source, place)

    def write():
        with staged_folder(tmp_path, replacing=["a.txt", "gone.txt", "never there.txt"]) as stage:
            (stage / "inner").mkdir()
            for name in ("a.txt", "b.txt", "inner/c.txt"):
                (stage / name).write_text("after")

    monkeypatch.setattr(os, "replace", refused_once)
    with pytest.raises(OutputError, match=r"Nothing could be written to .* no permission"):
        write()
    monkeypatch.undo()
    assert listing(tmp_path) == sorted(before)
    assert {name: (tmp_path / name).read_text() for name in before} == before
    write()
    assert listing(tmp_path) == ["a.txt", "b.txt", "inner", "inner/c.txt", "mine.txt"]
    assert [(tmp_path / name).read_text() for name in ("a.txt", "b.txt")] == ["after", "after"]


def test_a_folder_of_a_files_name_stays(tmp_path):
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "a.txt" / "mine").write_text("mine")
    with pytest.raises(OutputError, match="there is a folder of a file's name"), staged_folder(tmp_path) as stage:
        (stage / "a.txt").write_text("a")
    assert listing(tmp_path) == ["a.txt", "a.txt/mine"]


def test_a_file_in_the_way_is_said_before_the_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="a file"), staged_folder(tmp_path / "file" / "out"):
        pytest.fail("the block must not run")
    assert (tmp_path / "file").read_text() == "mine"


def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path):
    code = """
import os, sys, signal
from TumorQueryLib.base.files import staged_folder
with staged_folder(sys.argv[1]) as stage:
    (stage / "half.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert [path.name for path in tmp_path.iterdir()] != []
    with staged_folder(tmp_path) as stage:
        (stage / "whole.txt").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["whole.txt"]


def test_a_folder_that_is_being_written_is_left_alone(tmp_path):
    with staged_folder(tmp_path) as first:
        with staged_folder(tmp_path) as second:
            (second / "b.txt").write_text("b")
        (first / "a.txt").write_text("a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]
