"""A file that is written aside takes the place of the old one whole, or not at all."""

import os
import platform
import subprocess
import sys
import time
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


LEAVE = """
import os, sys
from pathlib import Path
from TumorQueryLib.base.files import replaced_file
for name in sys.argv[1:]:
    replaced_file(Path(name)).__enter__().write_text("half")
os._exit(0)
"""


def left_by_a_killed_process(*paths):
    """What a process left that was killed while it wrote these files, by the files' names."""
    subprocess.run([sys.executable, "-c", LEAVE, *map(str, paths)], check=True)
    return {path.name: next(paths[0].parent.glob(f".*-{path.name}")) for path in paths}


@pytest.mark.skipif(os.name != "posix", reason="asks whether a process lives")
def test_the_file_of_a_killed_process_is_removed_by_the_next(tmp_path):
    path = tmp_path / "summary.csv"
    left = left_by_a_killed_process(path, tmp_path / "model.bin")
    now = time.time()
    with replaced_file(path) as mine:
        mine.write_text("half")
        for one in (*left.values(), mine):
            os.utime(one, (now - 7200, now - 7200))
        with ThreadPoolExecutor(1) as executor:
            executor.submit(lambda: replaced_file(path).__enter__()).result()
        assert {entry.name for entry in tmp_path.iterdir()} == {mine.name, left["model.bin"].name}
        mine.write_text("whole")
    assert path.read_text() == "whole"


@pytest.mark.skipif(os.name != "posix", reason="asks whether a process lives")
@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_file_that_another_host_or_container_writes_is_left_alone(tmp_path, monkeypatch, elsewhere):
    """Its process is unknown here, as in a container that shares the folder and perhaps the host's name."""
    path = tmp_path / "summary.csv"
    (theirs,) = left_by_a_killed_process(path).values()
    if elsewhere:
        os.utime(theirs, (time.time() - 7200,) * 2)
        monkeypatch.setattr(platform, "node", lambda: "another")
    with replaced_file(path) as aside:
        aside.write_text("whole")
    assert theirs.read_text() == "half"
