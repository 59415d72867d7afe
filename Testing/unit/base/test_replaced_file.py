"""A file that is written aside takes the place of the old one whole, or not at all."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from TumorQueryLib.base.files import replaced_file


def test_a_file_is_replaced_whole_or_kept(tmp_path):
    path = tmp_path / "model.tar.gz"
    for content in ("first", "second"):
        with replaced_file(path) as aside:
            assert aside.name.endswith(".tar.gz")
            assert aside.parent == path.parent
            aside.write_text(content)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == content
        assert os.listdir(tmp_path) == [path.name]

    def fail():
        with replaced_file(path) as aside:
            aside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "second"
    assert os.listdir(tmp_path) == [path.name]
    with replaced_file(path) as aside, ThreadPoolExecutor(1) as executor:
        # Another thread that writes the same file does not write into this one's.
        assert executor.submit(lambda: replaced_file(path).__enter__()).result() != aside
        aside.write_text("third")
    assert path.read_text() == "third"


def test_the_name_aside_can_be_chosen(tmp_path):
    path = tmp_path / "tumors.h5"
    with replaced_file(path, aside=tmp_path / "tumors.h5.writing") as aside:
        assert aside.name == "tumors.h5.writing"
        aside.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.skipif(os.name != "posix", reason="asks whether a process lives")
def test_the_file_of_a_killed_process_is_removed_by_the_next(tmp_path):
    path = tmp_path / "summary.csv"
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead, alive = (tmp_path / f".{number}-77-summary.csv" for number in (child.pid, os.getpid()))
    other = tmp_path / f".{child.pid}-77-model.bin"
    for left in (dead, alive, other):
        left.write_text("half")
    with replaced_file(path) as aside:
        aside.write_text("whole")
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, alive.name, other.name}
