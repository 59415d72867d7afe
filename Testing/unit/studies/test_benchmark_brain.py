import json

import numpy as np
import pytest

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.cli import main
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.results.files import write_volume
from TumorQueryLib.studies.benchmarks import brain
from TumorQueryLib.studies.phantom import head_with_skull


@pytest.mark.slow
def test_the_command_measures_every_head_of_the_list(tmp_path, capsys):
    image, mask = head_with_skull(Atlas.load("MNI152"))
    write_volume(image, tmp_path / "head.nrrd")
    write_volume(Volume(mask.array.astype(np.uint8), mask.grid), tmp_path / "mask.nrrd")
    (tmp_path / "heads.csv").write_text("image,mask\nhead.nrrd,mask.nrrd\n", encoding="utf-8")
    called = ["bench", "brain", "--cohort", str(tmp_path / "heads.csv"), "--json", str(tmp_path / "brain.json")]
    assert main(called) == 0
    said = capsys.readouterr().out
    result = json.loads((tmp_path / "brain.json").read_text(encoding="utf-8"))
    assert [head["head"] for head in result["heads"]] == [brain.PAINTED, "head.nrrd"]
    for head in result["heads"]:
        assert head["dice"] > 0.95
        assert head["found_ml"] == pytest.approx(head["mask_ml"], rel=0.06)
        assert f"{head['dice']:.3f}" in said
    assert result["peak_memory_mb"] is None or result["peak_memory_mb"] > 100


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no row"),
        ("image,mask\n", "no row"),
        ("image,brain\na.nii,b.nii\n", "lacks the column mask"),
        ("image,mask\na.nii,\n", "Row 1 .* names no image or no mask"),
        ("image,mask\na.nii\n", "Row 1 .* names no image or no mask"),
    ],
)
def test_a_wrong_list_is_refused_in_a_sentence(text, complaint, tmp_path):
    path = tmp_path / "heads.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=complaint):
        brain.read_heads(path)


def test_paths_are_relative_to_the_list(tmp_path):
    path = tmp_path / "heads.csv"
    path.write_text("\ufeffmask, image, remark\nm.nii, sub/i.nii, x\n", encoding="utf-8")
    assert brain.read_heads(path) == [(tmp_path / "sub" / "i.nii", tmp_path / "m.nii")]


def test_a_result_reads_as_a_table_without_the_memory():
    head = {"head": "a", "dice": 0.9778, "found_ml": 1586.0, "mask_ml": 1600.0, "wall_s": 2.0, "cpu_s": 3.9}
    text = brain.as_text({"heads": [head], "cores": 2, "compiling_s": 3.0, "peak_memory_mb": None})
    assert "0.978" in text
    assert "memory" not in text
