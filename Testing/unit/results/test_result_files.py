"""A result is written whole or not at all, and read back as it was."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_results import QUALITY, made_up_result

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.geometry.grid import Grid, Volume, read_volume, volume_from_image
from TumorQueryLib.registration import Registration
from TumorQueryLib.results import files as files_module
from TumorQueryLib.results.files import read_result, write_volume
from TumorQueryLib.results.transform_files import write_transform
from TumorQueryLib.strategies import Match


@pytest.fixture(scope="module")
def written(synthetic_patient, tmp_path_factory):
    """A result whose transforms turn and shift, and the folder that it was written to."""
    there = sitk.AffineTransform(3)
    there.Rotate(0, 1, 0.2)
    there.Translate((3.0, -5.0, 7.0))
    registration = Registration(there, there.GetInverse(), "affine", QUALITY, ())
    result = made_up_result(synthetic_patient(), registration=registration, warnings=["Mind the gäp."])
    folder = tmp_path_factory.mktemp("résult")
    assert result.write(folder) == folder / "result.json"
    return result, folder


@pytest.mark.slow
def test_what_is_read_is_what_was_written(written):
    result, folder = written
    read = read_result(folder)
    assert read.chosen == result.chosen == "refined"
    assert read.warnings == ("Mind the gäp.",)
    for name, estimate in result.estimates.items():
        np.testing.assert_array_equal(read.density_of(name).array, estimate.in_patient.array)
        assert read.density_of(name).grid.matches(result.patient.t1gd.grid, 1e-5)
    np.testing.assert_array_equal(read.density.array, result.estimates["refined"].in_patient.array)
    for mask, threshold in ((read.core, 0.6), (read.whole, 0.2)):
        assert mask.array.dtype == bool
        np.testing.assert_array_equal(mask.array, result.density.array > threshold)
    assert read.matches == (Match(3, 0.5, 0.75, score=1.25), Match(4, 0.5, 0.5, score=1.0))
    assert read.matched_parameters == result.matched_parameters


@pytest.mark.slow
def test_segmentation_and_tissue_lie_on_the_t1gd_image(written):
    result, folder = written
    observed, saved = result.patient.regions_on_t1gd, read_result(folder)
    for held in (result, saved):
        assert held.segmentation.grid.matches(result.density.grid, 1e-5)
        np.testing.assert_array_equal(held.segmentation.array == 1, observed.core)
        np.testing.assert_array_equal(held.segmentation.array > 0, observed.whole)
        np.testing.assert_array_equal(held.tissue.array, 3 * result.brain_on_t1gd.array)
    assert result.brain_on_t1gd.array[observed.whole].all()


@pytest.mark.slow
def test_the_transforms_carry_points_both_ways(written):
    result, folder = written
    space = read_result(folder).space
    for point in ((0.0, 0.0, 0.0), (31.5, -20.0, 47.0)):
        carried = space.patient_to_atlas.TransformPoint(point)
        np.testing.assert_allclose(carried, result.registration.patient_to_atlas.TransformPoint(point), atol=1e-9)
        assert np.linalg.norm(np.subtract(carried, point)) > 5
        np.testing.assert_allclose(space.atlas_to_patient.TransformPoint(carried), point, atol=1e-9)


@pytest.mark.slow
def test_the_files_are_those_that_result_json_names(written):
    _, folder = written
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert {path.name for path in folder.iterdir()} == {"result.json", *content["outputs"].values()}
    assert content["outputs"]["density"] == content["estimates"]["refined"]["density"] == "density.nrrd"
    assert content["outputs"]["density_match"] == content["estimates"]["match"]["density"] == "density_match.nrrd"


@pytest.mark.slow
def test_the_search_is_a_table(written):
    result, folder = written
    lines = (folder / "refinement.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(result.refinement.path)
    first = dict(zip(lines[0].split(","), lines[1].split(",")))
    assert float(first["dice_sum"]) == result.refinement.path[0].score
    assert float(first["infiltration_length_mm"]) == 3.0
    assert first["of"] == "whole"


@pytest.mark.slow
def test_without_a_refinement_there_is_one_density(synthetic_patient, tmp_path):
    result = made_up_result(synthetic_patient(), refinement=None)
    result.write(tmp_path)
    assert not {path.name for path in tmp_path.iterdir()} & {"density_match.nrrd", "refinement.csv", "refinement.png"}
    read = read_result(tmp_path)
    assert read.chosen == "match"
    assert read.content["refinement"] is None
    with pytest.raises(InputError, match="no estimate 'refined'; it has match"):
        read.density_of("refined")


@pytest.mark.slow
def test_a_refinement_that_lost_is_kept_beside_the_match(synthetic_patient, tmp_path):
    result = made_up_result(synthetic_patient(), chosen="match")
    result.write(tmp_path)
    read = read_result(tmp_path)
    np.testing.assert_array_equal(read.density.array, result.estimates["match"].in_patient.array)
    refined = volume_from_image(sitk.ReadImage(str(tmp_path / "density_refined.nrrd")))
    np.testing.assert_array_equal(refined.array, result.estimates["refined"].in_patient.array)
    assert read.content["refinement"]["tissue_voxels_added"] == 7


@pytest.fixture
def copy(written, tmp_path):
    return shutil.copytree(written[1], tmp_path / "copy")


def test_a_folder_without_a_result_is_said(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"holds no readable result\.json.*run the inference again"):
            read_result(folder)


@pytest.mark.slow
def test_a_cut_result_is_said(copy):
    file = copy / "result.json"
    file.write_text(file.read_text(encoding="utf-8")[:500], encoding="utf-8")
    with pytest.raises(InputError, match=r"holds no readable result\.json"):
        read_result(copy)


@pytest.mark.slow
@pytest.mark.parametrize("content", [{"version": 1}, {}, [], 7, {"version": "2"}])
def test_a_result_of_another_version_is_refused(copy, content):
    (copy / "result.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=r"version .*, this software reads version 2; run the inference again"):
        read_result(copy)


def without(name):
    def change(content):
        del content[name]

    return change


def replaced(*place, value):
    def change(content):
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        *(without(name) for name in ("query", "database", "estimates", "chosen", "outputs", "warnings")),
        replaced("chosen", value="assimilated"),
        replaced("estimates", value=None),
        replaced("estimates", "match", value={}),
        replaced("database", value={}),
        replaced("outputs", value={}),
        replaced("warnings", value=None),
        replaced("query", "matches", value=[{"entry": 1}]),
        *(
            replaced("query", "matches", 0, name, value=-0.1)
            for name in ("entry", "dice_core", "dice_whole", "dice_sum")
        ),
        replaced("query", "matches", 0, "dice_core", value=1.1),
        replaced("query", "matches", 0, "dice_sum", value=2.1),
        replaced("query", "matches", 0, "parameters", "duration_days", value=-1),
        replaced("query", "matches", 0, "parameters", "diffusivity_mm2_per_day", value="much"),
    ],
)
def test_a_result_that_is_not_whole_is_one_sentence(copy, change):
    content = json.loads((copy / "result.json").read_text(encoding="utf-8"))
    change(content)
    (copy / "result.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=r"is not whole .*run the inference again\.$") as raised:
        read_result(copy)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "cut", "text"])
@pytest.mark.parametrize("attribute", ["density", "core", "whole", "space"])
def test_a_damaged_file_is_said_when_it_is_read(copy, attribute, damage):
    path = copy / ("atlas_to_patient.h5" if attribute == "space" else f"{attribute}.nrrd")
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_text("no image")
    read = read_result(copy)
    with pytest.raises(
        InputError, match=r"(cannot be read|not as it was written); run the inference again\.$"
    ) as raised:
        getattr(read, attribute)
    assert "\n" not in str(raised.value)


def test_a_volume_is_read_back(tmp_path):
    grid = Grid((4, 5, 6), np.array([[0, -1.5, 0, 3], [2, 0, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1.0]]))
    array = np.random.default_rng(0).random(grid.shape).astype(np.float32)
    path = tmp_path / "dénsity.nrrd"
    write_volume(Volume(array, grid), path)

    read = volume_from_image(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(read.array, array)
    assert read.grid.matches(grid, 1e-5)


@pytest.mark.slow
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
        from TumorQueryLib.base.files import staged_folder
        from TumorQueryLib.results.files import write_volume
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
        [sys.executable, "-c", script, str(tmp_path / "out")], capture_output=True, encoding="utf-8", timeout=120
    )
    assert ran.returncode == 2, ran.stderr
    assert "could not be written whole" in ran.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_write_that_fails_keeps_the_earlier_result(synthetic_patient, tmp_path):
    """Cancelled at its last step, the new result leaves the old one as it was."""
    first = made_up_result(synthetic_patient(), chosen="match")
    first.write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def stop(value, message):
        if value >= 0.9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataclasses.replace(first, chosen="refined").write(tmp_path, progress=stop)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_files_whose_names_are_not_utf_8_are_refused_and_do_not_end_the_process(tmp_path):
    folder = tmp_path / os.fsdecode(b"o\xe4")
    volume = Volume(np.zeros((2, 2, 2), np.uint8), Grid((2, 2, 2), np.eye(4)))
    for call in (
        lambda: write_volume(volume, folder / "a.nrrd"),
        lambda: read_volume(folder / "a.nrrd"),
        lambda: write_transform(sitk.TranslationTransform(3), folder / "a.h5"),
        lambda: Atlas.load(folder),
    ):
        with pytest.raises(InputError):
            call()


def test_names_beyond_ascii_are_written_and_read_whatever_the_locale(tmp_path):
    """A process whose locale is POSIX's has other names for the same files."""
    script = """
import sys
from pathlib import Path
import numpy as np, SimpleITK as sitk
from TumorQueryLib.geometry.grid import Grid, Volume, read_volume
from TumorQueryLib.results.files import write_volume
from TumorQueryLib.results.transform_files import write_transform
folder = Path(sys.argv[1], "Gr\\udcc3\\udcb6\\udcc3\\udc9fe")
folder.mkdir()
write_volume(Volume(np.ones((2, 2, 2), np.uint8), Grid((2, 2, 2), np.eye(4))), folder / "a.nrrd")
write_transform(sitk.TranslationTransform(3), folder / "a.h5")
assert read_volume(folder / "a.nrrd").array.all()
"""
    posix = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=os.environ | posix)
    assert sorted(path.name for path in (tmp_path / "Größe").iterdir()) == ["a.h5", "a.nrrd"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_in_the_place_of_a_volume_is_not_waited_for(copy):
    (copy / "density.nrrd").unlink()
    os.mkfifo(copy / "density.nrrd")
    with pytest.raises(InputError, match=r"density\.nrrd beside .* cannot be read"):
        _ = read_result(copy).density


def test_a_disk_that_is_full_at_the_report_is_one_sentence(synthetic_patient, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files_module, "write_report", full)
    with pytest.raises(OutputError, match=r"Nothing could be written to .*out: the disk is full"):
        made_up_result(synthetic_patient(), chosen="match").write(tmp_path / "out")
    assert not (tmp_path / "out").exists()
