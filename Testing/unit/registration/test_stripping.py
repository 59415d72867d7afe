"""A head with skull becomes images without: on one grid, over one another, and nothing but brain in them."""

import json

import numpy as np
import pytest

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.brain import find_brain
from TumorQueryLib.geometry.grid import Volume, read_volume, resample
from TumorQueryLib.geometry.regions import dice
from TumorQueryLib.jobs import JOBS
from TumorQueryLib.registration.stripping import strip_images
from TumorQueryLib.results.files import write_volume
from TumorQueryLib.studies.painted_head import sample_with_head
from TumorQueryLib.studies.sample import sample_files


def floats(path):
    volume = read_volume(path)
    return Volume(volume.array.astype(np.float32), volume.grid)


@pytest.fixture(scope="module")
def stripped_sample():
    return {role: floats(sample_files()[role]) for role in ("t1gd", "flair")}


@pytest.mark.slow
def test_an_image_without_skull_keeps_its_brain(stripped_sample):
    t1gd, flair = stripped_sample.values()
    found = strip_images(t1gd, {"flair": flair}, align=False)
    assert (found.source, found.alignment) == ("stripped", {})
    np.testing.assert_array_equal(found.brain.array, find_brain(t1gd)[0])
    assert found.images["flair"].grid.matches(t1gd.grid)
    inside = found.brain.array
    expected = resample(flair, t1gd.grid).array
    np.testing.assert_array_equal(found.images["flair"].array[inside], expected[inside])
    for image in found.images.values():
        assert not image.array[~inside].any()


@pytest.mark.slow
def test_a_mask_that_is_given_is_taken(stripped_sample):
    t1gd = stripped_sample["t1gd"]
    mask = np.zeros(t1gd.grid.shape, bool)
    mask[20:60, 20:60, 20:60] = True
    found = strip_images(t1gd, brain_mask=Volume(mask, t1gd.grid))
    assert found.source == "given"
    np.testing.assert_array_equal(found.brain.array, mask)
    np.testing.assert_array_equal(found.images["t1gd"].array, np.where(mask, t1gd.array, 0))


@pytest.mark.slow
def test_the_job_strips_a_head_and_puts_a_moved_image_back(stripped_sample, tmp_path):
    head = sample_with_head(tmp_path)
    moved = floats(head["flair"])
    shift = np.eye(4)
    shift[:3, 3] = (6.0, -4.0, 0.0)
    write_volume(Volume(moved.array, moved.grid.moved(shift)), tmp_path / "moved.nrrd")
    arguments = {"t1gd": str(head["t1gd"]), "flair": str(tmp_path / "moved.nrrd")}
    told = JOBS["strip"]({"out": str(tmp_path / "out"), "arguments": arguments}, progress=lambda value, message: None)
    content = json.loads(told.read_text(encoding="utf-8"))
    assert content["source"] == "extracted"
    assert content["alignment"]["flair"]["moved"]
    files = {role: read_volume(told.parent / name) for role, name in content["files"].items()}
    truth = stripped_sample["t1gd"]
    brain = files["brain"].array > 0
    corner = np.rint(files["brain"].grid.to_index(truth.grid.to_ras((0, 0, 0)))).astype(int)
    box = tuple(slice(a, a + n) for a, n in zip(corner, truth.grid.shape))
    expected = np.zeros(brain.shape, bool)
    expected[box] = find_brain(truth)[0]
    assert dice(brain, expected) > 0.93
    inside = expected & brain
    unmoved = resample(stripped_sample["flair"], files["brain"].grid).array
    assert np.corrcoef(files["flair"].array[inside], unmoved[inside])[0, 1] > 0.95
    assert not files["flair"].array[~brain].any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"flair": "f"}, "t1gd is a text"), ({"t1gd": "a", "align": 1}, "align is true or"), ({"t3": "a"}, "'t3'")],
)
def test_a_job_of_another_form_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        JOBS["strip"]({"out": "o", "arguments": arguments}, progress=lambda value, message: None)
