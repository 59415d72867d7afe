"""The command line as users and scripts meet it: exit status, one or two lines, nothing half-written."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from TumorQueryLib.base.resources import resources_folder
from TumorQueryLib.cli import main


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "TumorQueryLib", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        **options,
    )


def called(capsys, *arguments):
    """Exit status and standard error of a command, run in this process."""
    status = main([str(argument) for argument in arguments])
    return status, capsys.readouterr().err.strip()


@pytest.fixture
def sample():
    from TumorQueryLib.studies.sample import sample_files

    return sample_files()


@pytest.fixture
def infer_call(sample, tmp_path):
    """Arguments of an inference of the sample, with some of them replaced or, by None, left out."""

    def call(**changes):
        files = {"t1gd": sample["t1gd"], "segmentation": sample["segmentation"], "out": tmp_path / "out"} | changes
        files.setdefault("registration", "none")
        return [
            "infer",
            *(
                text
                for name, value in files.items()
                if value is not None
                for text in ("--" + name.replace("_", "-"), str(value))
            ),
        ]

    return call


def changed(path, target, change):
    """A copy of an image file whose array went through `change`."""
    image = sitk.ReadImage(str(path))
    array = change(sitk.GetArrayFromImage(image))
    new = sitk.GetImageFromArray(array, isVector=False)
    if array.ndim == 3:
        new.CopyInformation(image)
    sitk.WriteImage(new, str(target))
    return target


def bad_inputs(folder, sample):
    """Every kind of bad input that the issue of the main job names, and a word its message must hold."""
    text = folder / "text.nii.gz"
    text.write_text("this is no image")
    segmentation = sample["segmentation"]
    empty = changed(segmentation, folder / "empty.nii.gz", lambda a: a * 0)
    odd = changed(segmentation, folder / "odd.nii.gz", lambda a: a * 7)
    four = changed(sample["t1gd"], folder / "four.nrrd", lambda a: np.stack([a, a]))
    elsewhere = sitk.ReadImage(str(segmentation))
    elsewhere.SetOrigin([x + 500 for x in elsewhere.GetOrigin()])
    sitk.WriteImage(elsewhere, str(folder / "elsewhere.nii.gz"))
    core = changed(segmentation, folder / "core.nii.gz", lambda a: (a > 0).astype(np.uint8))
    whole = changed(segmentation, folder / "whole.nii.gz", lambda a: (a == 4).astype(np.uint8))
    (folder / "file").write_text("in the way")
    starter = resources_folder() / "Databases" / "starter.h5"
    truncated = folder / "truncated.h5"
    truncated.write_bytes(starter.read_bytes()[: starter.stat().st_size // 2])
    schema = folder / "schema.h5"
    shutil.copyfile(starter, schema)
    import h5py

    with h5py.File(schema, "r+") as file:
        file.attrs["schema_version"] = 99
    return {
        "missing file": ({"t1gd": folder / "nowhere.nii.gz"}, "nowhere.nii.gz"),
        "text named .nii.gz": ({"t1gd": text}, "text.nii.gz"),
        "all-zero segmentation": ({"segmentation": empty}, "empty"),
        "segmentation elsewhere": ({"segmentation": folder / "elsewhere.nii.gz"}, "segmentation"),
        "labels never seen": ({"segmentation": odd}, "brats2013"),
        "core larger than whole": ({"segmentation": None, "core": core, "whole": whole}, "core"),
        "four dimensions": ({"t1gd": four}, "volumes"),
        "database of another schema": ({"database": schema}, "version"),
        "truncated database": ({"database": truncated}, "truncated.h5"),
        "no such database": ({"database": folder / "none.h5"}, "none.h5"),
        "output folder that cannot be": ({"out": folder / "file" / "out"}, "file"),
        "no such strategy": ({"strategy": "guess"}, "direct"),
        "no such convention": ({"labels": "brats1999"}, "brats2018"),
    }


def test_bad_input_is_one_or_two_lines_and_leaves_nothing(tmp_path, capsys, sample, infer_call):
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for name, (change, word) in bad_inputs(inputs, sample).items():
        before = sorted(path for path in tmp_path.rglob("*"))
        status, said = called(capsys, *infer_call(**change))
        assert status == 2, f"{name}: {status} {said}"
        assert 1 <= len(said.splitlines()) <= 2, f"{name}: {said}"
        assert word in said, f"{name}: {said}"
        assert "Traceback" not in said, name
        assert sorted(path for path in tmp_path.rglob("*")) == before, name


@pytest.mark.parametrize(
    "arguments", [[], ["guess"], ["infer"], ["infer", "--t1gd"], ["build", "x.h5", "--entries", "-3"]]
)
def test_wrong_calls_are_one_line_and_status_2(arguments):
    ran = run(*arguments)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert len(ran.stderr.strip().splitlines()) == 1
    assert "--help" in ran.stderr


def test_help_names_every_command():
    text = run("--help").stdout
    for command in ("demo", "infer", "cohort", "build", "info", "bench"):
        assert command in text


@pytest.fixture(scope="module")
def affine_result(tmp_path_factory):
    """The sample inferred twice on the command line with the affine registration."""
    from TumorQueryLib.studies.sample import sample_files

    folders = [tmp_path_factory.mktemp("résult") / name for name in ("one", "two")]
    files = sample_files()
    for folder in folders:
        ran = run(
            *("infer", "--t1gd", files["t1gd"], "--flair", files["flair"], "--segmentation", files["segmentation"]),
            *("--registration", "affine", "--out", folder),
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr == "", "a pipe gets no progress bar"
        assert str(folder / "result.json") in ran.stdout
    return folders


def test_the_result_holds_what_the_contract_says(affine_result):
    folder = affine_result[0]
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert result["version"] == 1
    assert {record["role"] for record in result["inputs"]} == {"t1gd", "flair", "segmentation"}
    text = json.dumps(result)
    assert str(resources_folder()) not in text
    assert ".nii.gz" not in text
    matches = result["matches"]
    assert len(matches) == 15
    sums = [match["dice_sum"] for match in matches]
    assert sums == sorted(sums, reverse=True)
    for match in matches:
        assert match["dice_sum"] == pytest.approx(match["dice_core"] + match["dice_whole"])
        found = match["parameters"]
        assert found["frame"] == "atlas"
        ratio = found["diffusivity_mm2_per_day"] / found["proliferation_per_day"]
        assert found["infiltration_length_mm"] == pytest.approx(ratio**0.5)
        assert found["rho_t"] == pytest.approx(found["proliferation_per_day"] * found["duration_days"])
    assert result["refined"] is None
    assert set(result["timings_s"]) == {
        *("load", "registration", "query", "refine", "simulate", "back_transform", "total")
    }
    files = {path.name for path in folder.iterdir()}
    assert files == {*result["outputs"].values(), "result.json"}


def test_patient_space_is_what_a_user_computes_from_the_files(affine_result, sample):
    """From density.nrrd and the segmentation's labels alone, by plain NumPy."""
    result = json.loads((affine_result[0] / "result.json").read_text(encoding="utf-8"))
    image = sitk.ReadImage(str(affine_result[0] / "density.nrrd"))
    density = sitk.GetArrayFromImage(image)
    reference = sitk.ReadImage(str(sample["t1gd"]))
    assert density.dtype == np.float32
    assert image.GetSize() == reference.GetSize()
    np.testing.assert_allclose(image.GetOrigin(), reference.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(image.GetDirection(), reference.GetDirection(), atol=1e-4)
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(sample["segmentation"])))
    voxel_ml = np.prod(image.GetSpacing()) / 1000
    for region, seen, threshold in (
        ("core", np.isin(labels, (1, 4)), 0.6),
        ("whole", labels > 0, 0.2),
    ):
        found = density > threshold
        dice = 2 * (seen & found).sum() / (seen.sum() + found.sum())
        assert result["patient_space"][f"dice_{region}"] == pytest.approx(dice, abs=1e-9)
        volumes = result["patient_space"]["volumes_ml"]
        assert volumes["observed"][region] == pytest.approx(seen.sum() * voxel_ml, rel=1e-5)
        assert volumes["predicted"][region] == pytest.approx(found.sum() * voxel_ml, rel=1e-5)
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(affine_result[0] / f"{region}.nrrd")))
        np.testing.assert_array_equal(mask.astype(bool), found)


def test_the_transforms_carry_the_density(affine_result):
    """The atlas's tumour, simulated again from result.json and carried by the file, is density.nrrd."""
    from TumorQueryLib.inference import density_of_match

    again = density_of_match(affine_result[1], 0)
    assert again == affine_result[1] / "match_0" / "density.nrrd"
    np.testing.assert_allclose(
        sitk.GetArrayFromImage(sitk.ReadImage(str(again))),
        sitk.GetArrayFromImage(sitk.ReadImage(str(affine_result[1] / "density.nrrd"))),
        atol=2e-3,
    )
    forward = sitk.ReadTransform(str(affine_result[1] / "patient_to_atlas.h5"))
    backward = sitk.ReadTransform(str(affine_result[1] / "atlas_to_patient.h5"))
    point = sitk.ReadImage(str(again)).TransformContinuousIndexToPhysicalPoint((60, 70, 40))
    np.testing.assert_allclose(backward.TransformPoint(forward.TransformPoint(point)), point, atol=1e-3)


def test_a_refinement_is_told_beside_the_match(tmp_path, sample, affine_result):
    """Grown in the patient's own anatomy: its lengths are the patient's, and it fits no worse than the match."""
    out = tmp_path / "refined"
    ran = run(
        *("infer", "--t1gd", sample["t1gd"], "--segmentation", sample["segmentation"], "--registration", "affine"),
        *("--refine", "patient", "--refine-solves", 24, "--out", out),
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    before = json.loads((affine_result[0] / "result.json").read_text(encoding="utf-8"))
    assert result["matches"] == before["matches"]
    refined = result["refined"]
    assert refined["solves"] <= 24
    assert refined["dice_sum"] >= refined["match_dice_sum"]
    assert refined["dice_sum"] == pytest.approx(refined["dice_core"] + refined["dice_whole"])
    found = refined["parameters"]
    assert found["frame"] == "patient"
    assert found["seed_patient_mm"] == found["seed_mm"]
    assert found["infiltration_length_patient_mm"] == found["infiltration_length_mm"]

    def fit(space):
        return space["dice_core"] + space["dice_whole"]

    assert fit(result["patient_space"]) >= fit(before["patient_space"])
    assert {path.name for path in out.iterdir()} == {*result["outputs"].values(), "result.json"}
    match_density = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "density_match.nrrd")))
    np.testing.assert_array_equal(
        match_density, sitk.GetArrayFromImage(sitk.ReadImage(str(affine_result[0] / "density.nrrd")))
    )


def test_the_same_input_gives_the_same_result(affine_result):
    results = [json.loads((folder / "result.json").read_text(encoding="utf-8")) for folder in affine_result]
    for result in results:
        del result["timings_s"]
    assert results[0] == results[1]
    densities = [sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "density.nrrd"))) for folder in affine_result]
    np.testing.assert_array_equal(*densities)


def test_cancelling_leaves_nothing(tmp_path, sample):
    """SIGTERM in the middle of a run, as a batch system sends it."""
    import signal
    import time

    out = tmp_path / "new" / "out"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "TumorQueryLib", "infer", "--t1gd", str(sample["t1gd"])),
            *("--segmentation", str(sample["segmentation"]), "--out", str(out)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not out.exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "cancelled" in said
    assert list(tmp_path.iterdir()) == []


def test_a_cohort_goes_on_after_a_failure(tmp_path, capsys, sample):
    import csv

    cohort = tmp_path / "cohort.csv"
    with open(cohort, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "t1gd", "segmentation", "labels"])
        writer.writerow(["broken", "nowhere.nii.gz", sample["segmentation"], ""])
        writer.writerow(["Jürgen", sample["t1gd"], sample["segmentation"], "brats2018"])
    out = tmp_path / "out"
    status, said = called(capsys, "cohort", cohort, "--out", out, "--registration", "none", "--top", 1)
    assert status == 2
    assert "1 of 2 patients failed" in said
    with open(out / "summary.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["patient"] for row in rows] == ["broken", "Jürgen"]
    assert rows[0]["status"] == "failed"
    assert "nowhere.nii.gz" in rows[0]["error"]
    assert rows[1]["status"] == "done"
    result = json.loads((out / "Jürgen" / "result.json").read_text(encoding="utf-8"))
    assert float(rows[1]["dice_sum"]) == result["matches"][0]["dice_sum"]
    assert not (out / "broken").exists()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "columns"),
        ("patient,t1gd,colour\nA,a.nii,red\n", "colour"),
        ("patient,t1gd\n", "no row"),
        ("patient,t1gd\nA,a.nii\nA,b.nii\n", "more than once"),
        ("patient,t1gd\n../A,a.nii\n", "Line 2"),
        ("patient,t1gd\nA,\n", "Line 2"),
    ],
)
def test_bad_cohort_files_are_said_before_any_work(tmp_path, capsys, text, word):
    cohort = tmp_path / "cohort.csv"
    cohort.write_text(text, encoding="utf-8")
    status, said = called(capsys, "cohort", cohort, "--out", tmp_path / "out")
    assert status == 2
    assert word in said
    assert not (tmp_path / "out").exists()
