"""Results appear whole or not at all."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from TumorQueryLib.base.errors import OutputError
from TumorQueryLib.base.files import staged_folder, write_json, write_volume
from TumorQueryLib.geometry.grid import Grid, Volume


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


def test_a_file_in_the_way_is_said_before_the_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="a file"), staged_folder(tmp_path / "file" / "out"):
        pytest.fail("the block must not run")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_volume_is_read_back(tmp_path):
    grid = Grid((4, 5, 6), np.array([[0, -1.5, 0, 3], [2, 0, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1.0]]))
    array = np.random.default_rng(0).random(grid.shape).astype(np.float32)
    path = tmp_path / "dénsity.nrrd"
    write_volume(Volume(array, grid), path)
    import SimpleITK as sitk

    from TumorQueryLib.geometry.grid import volume_from_image

    read = volume_from_image(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(read.array, array)
    assert read.grid.matches(grid, 1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    """A limit on the size of files ends a write part-way, as a full disk does."""
    script = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        from TumorQueryLib.base.errors import OutputError
        from TumorQueryLib.geometry.grid import Grid, Volume
        from TumorQueryLib.base.files import staged_folder, write_volume
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        array = np.random.default_rng(0).random((64, 64, 64)).astype(np.float32)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            with staged_folder(Path(sys.argv[1])) as stage:
                write_volume(Volume(array, Grid.isotropic(64, 1.0, (0, 0, 0))), stage / "density.nrrd")
        except OutputError as error:
            print(error)
            sys.exit(2)
        """
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out")], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 2, ran.stderr
    assert "could not be written whole" in ran.stdout
    assert listing(tmp_path) == []
