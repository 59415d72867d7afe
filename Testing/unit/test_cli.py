"""The command line as users and scripts meet it: exit status, one or two lines, nothing half-written."""

import csv
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from closed_folders import closed, open_folder
from small_world import world_patient, write_patient

from TumorQueryLib.base.method import Method
from TumorQueryLib.base.resources import resources_folder
from TumorQueryLib.cli import main, make_parser, method_of, write_log
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.strategies.base import StrategyInfo, StrategyOption
from TumorQueryLib.strategies.direct import Direct
from TumorQueryLib.studies.known_truth.run import run_studies


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "TumorQueryLib", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
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
        if files["segmentation"] is not None:
            files.setdefault("labels", sample["labels"])
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
        "no convention": ({"labels": None}, "brats2018 (1 necrosis"),
        "core larger than whole": ({"segmentation": None, "core": core, "whole": whole}, "core"),
        "four dimensions": ({"t1gd": four}, "volumes"),
        "database of another schema": ({"database": schema}, "version"),
        "truncated database": ({"database": truncated}, "truncated.h5"),
        "no such database": ({"database": folder / "none.h5"}, "none.h5"),
        "output folder that cannot be": ({"out": folder / "file" / "out"}, "file"),
        "no such strategy": ({"strategy": "guess"}, "direct"),
        "no such convention": ({"labels": "brats1999"}, "brats2018"),
        "no such atlas": ({"atlas": folder / "atlas"}, "atlas folder"),
    }


@pytest.mark.slow
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


def test_the_defaults_of_the_command_line_are_those_of_the_library(tmp_path):
    for call in (["infer", "--t1gd", "a", "--segmentation", "b", "--out", "c"], ["cohort", "a.csv", "--out", "c"]):
        assert method_of(make_parser().parse_args(call)) == Method()


def test_options_of_a_strategy_are_named_values(capsys):
    call = ["cohort", "a.csv", "--out", "c", "--strategy", "radiomics", "--strategy-option", "rerank=5"]
    chosen = method_of(make_parser().parse_args([*call, "--strategy-option", "model=a=b.h5"]))
    assert chosen.strategy_options == {"rerank": "5", "model": "a=b.h5"}
    for wrong in ("rerank", "=5"):
        status, said = called(capsys, *call, "--strategy-option", wrong)
        assert status == 2
        assert f"{wrong!r} is not of the form NAME=VALUE" in said
        assert len(said.splitlines()) == 1


@pytest.mark.slow
def test_options_reach_the_strategy(capsys, tmp_path, world, world_files, registered):
    given = []
    bonus = StrategyOption(int, 0, "a number")

    @registered("direct-with-options", StrategyInfo(options={"bonus": bonus}))
    class WithOptions(Direct):
        def __init__(self, database, **options):
            super().__init__(database)
            given.append(options)

    status, said = called(
        capsys,
        *("infer", *world_files, *world.options(refine="none"), "--strategy", "direct-with-options"),
        *("--strategy-option", "bonus=7", "--out", tmp_path / "out"),
    )
    assert (status, given) == (0, [{"bonus": 7}]), said
    for option, words in (("malus=7", "no option 'malus'; it accepts bonus (a number)"), ("bonus=many", "'many'")):
        status, said = called(
            capsys,
            *("infer", *world_files, *world.options(refine="none"), "--strategy", "direct-with-options"),
            *("--strategy-option", option, "--out", tmp_path / "refused"),
        )
        assert status == 2
        assert words in said
        assert not (tmp_path / "refused").exists()


@pytest.fixture(scope="module")
def world_files(world, tmp_path_factory):
    """The options that name the files of a patient of the small world."""
    files = write_patient(tmp_path_factory.mktemp("pätient"), world_patient())
    return [text for name, value in files.items() for text in (f"--{name}", value)]


@pytest.fixture(scope="module")
def results(world, world_files, tmp_path_factory):
    """A patient of the small world inferred twice, by a process of its own and by this one; the atlas is one's own."""
    folders = [tmp_path_factory.mktemp("résult") / name for name in ("one", "two")]
    calls = [["infer", *world_files, *world.options(align=True), "--out", str(folder)] for folder in folders]
    ran = run(*calls[0])
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == "", "a pipe gets no progress bar"
    assert str(folders[0] / "result.json") in ran.stdout
    assert "Density shown: assimilated" in ran.stdout
    assert main(calls[1]) == 0
    return folders


def result_in(folder):
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_result_holds_what_the_contract_says(results, world):
    folder = results[0]
    result = result_in(folder)
    assert result["version"] == 2
    assert {record["role"] for record in result["inputs"]} == {"t1gd", "flair", "segmentation"}
    text = json.dumps(result)
    for private in (str(world.database), str(world.atlas_folder), "pätient", ".nii.gz"):
        assert private not in text
    assert result["labels"] == "core=4/whole=2,4"
    assert result["brain"]["source"] == "stripped"
    # A ball of 60 mm, and what its resampled edge adds.
    assert result["brain"]["volume_ml"] == pytest.approx(4 / 3 * np.pi * 6.25**3, rel=0.1)
    assert result["database"]["atlas"] == "small brain"
    assert result["database"]["entries"] == 24
    assert result["registration"]["mode"] == "none"
    matches = result["query"]["matches"]
    assert len(matches) == 15
    sums = [match["dice_sum"] for match in matches]
    assert sums == sorted(sums, reverse=True)
    assert list(result["estimates"]) == ["match", "refined", "assimilated"]
    assert (result["chosen"], result["model"]) == ("assimilated", "refined")
    for estimate, anatomy in (("match", "atlas"), ("refined", "patient"), ("assimilated", "patient")):
        described = result["estimates"][estimate]
        assert described["anatomy"] == anatomy
        for fit in (described["fit"], described["fit_in_anatomy"], *matches):
            assert fit["dice_sum"] == pytest.approx(fit["dice_core"] + fit["dice_whole"])
        for found in (*described["parameters"], *(match["parameters"] for match in matches)):
            ratio = found["diffusivity_mm2_per_day"] / found["proliferation_per_day"]
            assert found["infiltration_length_mm"] == pytest.approx(ratio**0.5)
            assert found["rho_t"] == pytest.approx(found["proliferation_per_day"] * found["duration_days"])
    assert 1 <= result["refinement"]["solves"] <= 6
    assert result["refinement"]["stopped"] == "budget"
    assert set(result["timings_s"]) == {
        *("load", "alignment", "brain", "registration", "query", "match", "refinement", "assimilation", "total")
    }
    assert {path.name for path in folder.iterdir()} == {*result["outputs"].values(), "result.json"}


@pytest.mark.slow
def test_the_fit_is_what_a_user_computes_from_the_files(results, world_files):
    """From density.nrrd and the segmentation's labels alone, by plain NumPy."""
    folder, fit = results[0], result_in(results[0])["estimates"]["assimilated"]["fit"]
    image = sitk.ReadImage(str(folder / "density.nrrd"))
    density = sitk.GetArrayFromImage(image)
    files = dict(zip(world_files[::2], world_files[1::2]))
    reference = sitk.ReadImage(files["--t1gd"])
    assert density.dtype == np.float32
    assert image.GetSize() == reference.GetSize()
    np.testing.assert_allclose(image.GetOrigin(), reference.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(image.GetDirection(), reference.GetDirection(), atol=1e-4)
    labels = sitk.GetArrayFromImage(sitk.ReadImage(files["--segmentation"]))
    voxel_ml = np.prod(image.GetSpacing()) / 1000
    for region, seen, threshold in (("core", labels == 4, 0.6), ("whole", labels > 0, 0.2)):
        found = density > threshold
        dice = 2 * (seen & found).sum() / (seen.sum() + found.sum())
        assert fit[f"dice_{region}"] == pytest.approx(dice, abs=1e-9)
        assert fit["observed_ml"][region] == pytest.approx(seen.sum() * voxel_ml, rel=1e-5)
        assert fit["predicted_ml"][region] == pytest.approx(found.sum() * voxel_ml, rel=1e-5)
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{region}.nrrd")))
        np.testing.assert_array_equal(mask.astype(bool), found)


@pytest.mark.slow
def test_the_same_input_gives_the_same_result(results):
    first, second = (result_in(folder) | {"timings_s": None} for folder in results)
    assert first == second
    densities = [sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "density.nrrd"))) for folder in results]
    np.testing.assert_array_equal(*densities)


@pytest.mark.slow
def test_the_papers_own_answer_is_the_match_alone(capsys, tmp_path, world, world_files, results):
    status, said = called(capsys, "infer", *world_files, *world.options(refine="none"), "--out", tmp_path)
    assert status == 0, said
    result, refined = result_in(tmp_path), result_in(results[0])
    assert result["query"] == refined["query"]
    assert list(result["estimates"]) == ["match"]
    assert result["chosen"] == "match"
    assert result["refinement"] is None
    assert {path.name for path in tmp_path.iterdir()} == {*result["outputs"].values(), "result.json"}
    match, beside = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        for path in (tmp_path / "density.nrrd", results[0] / "density_match.nrrd")
    )
    np.testing.assert_array_equal(match, beside)


def test_without_its_atlas_a_database_of_ones_own_is_refused(capsys, tmp_path, world, world_files):
    call = ["infer", *world_files, "--database", world.database, "--registration", "none", "--out", tmp_path / "out"]
    status, said = called(capsys, *call)
    assert status == 2
    assert "small brain" in said
    assert "--atlas" in said
    status, said = called(capsys, *call, "--atlas", "SRI24")
    assert status == 2
    assert "not in SRI24" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_transforms_carry_the_density(capsys, tmp_path, world):
    """The atlas's tumour, simulated again from result.json and carried by the file, is density.nrrd."""
    from TumorQueryLib.jobs import show_match

    patient, shift = world_patient(), np.eye(4)
    shift[:3, 3] = 6.0, -4.0, 5.0
    volumes = {name: getattr(patient, name) for name in ("t1gd", "flair", "core", "whole")}
    moved = {name: Volume(volume.array, volume.grid.moved(shift)) for name, volume in volumes.items()}
    files = write_patient(tmp_path / "files", Patient(**moved))
    given = [word for name, value in files.items() for word in (f"--{name}", value)]
    options = world.options(registration="affine", refine="none")
    status, said = called(capsys, "infer", *given, *options, "--out", tmp_path)
    assert status == 0, said
    again = show_match(tmp_path, 0, atlas=str(world.atlas_folder))
    assert again == tmp_path / "match_0" / "density.nrrd"
    shown, best = (sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in (again, tmp_path / "density.nrrd"))
    np.testing.assert_allclose(shown, best, atol=2e-3)
    forward, backward = (
        sitk.ReadTransform(str(tmp_path / f"{name}.h5")) for name in ("patient_to_atlas", "atlas_to_patient")
    )
    point = sitk.ReadImage(str(again)).TransformContinuousIndexToPhysicalPoint((40, 30, 20))
    carried = forward.TransformPoint(point)
    assert np.linalg.norm(np.subtract(carried, point)) > 5
    np.testing.assert_allclose(backward.TransformPoint(carried), point, atol=1e-3)


def test_a_defect_is_a_traceback_and_a_log(capsys, tmp_path, world, world_files, registered, user_cache):
    @registered("broken")
    class Broken:
        name = "broken"

        def __init__(self, database):
            raise ZeroDivisionError("by nothing")

    out = tmp_path / "out"
    status, said = called(capsys, "infer", *world_files, *world.options(), "--strategy", "broken", "--out", out)
    assert status == 1
    assert "Traceback" in said
    log = user_cache / "last-error.log"
    assert said.splitlines()[-1] == f"tumorquery: this is a defect of TumorQuery; please report it with {log}."
    text = log.read_text(encoding="utf-8")
    assert "ZeroDivisionError: by nothing" in text
    assert "infer --t1gd" in text
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    # The files' names are often the patient's.
    assert str(out) not in text
    assert not any(file in text for file in map(str, world_files) if not file.startswith("-"))
    assert text.startswith("TumorQuery 0.")
    assert not out.exists()


def test_a_log_that_cannot_be_written_is_no_second_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TUMORQUERY_CACHE", str(tmp_path / "file" / "cache"))
    assert write_log(ValueError("odd"), ["info"]) == "please report the lines above."


def test_a_log_names_no_patient(user_cache):
    try:
        try:
            Path("/scans/Doe Jane Mary/t1 gd.nii").read_bytes()
        except OSError as error:
            raise ValueError("no voxel in /scans/Doe Jane Mary/t1 gd.nii or Doe^Jane/x") from error
    except ValueError as error:
        write_log(error, ["infer", "--t1gd=/scans/Doe Jane Mary/t1 gd.nii", "--out", "/scans/Doe Jane Mary/t1 gd.nii"])
    text = (user_cache / "last-error.log").read_text(encoding="utf-8")
    said = [line for line in text.splitlines() if "Error: " in line]
    assert said == ["ValueError: no voxel in ... or ...", "FileNotFoundError: [Errno 2] No such file or directory: ..."]
    assert "tumorquery infer --t1gd --out" in text


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="closed streams and /dev/full are POSIX's")


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("streams", ["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-", ">/dev/full"])
def test_streams_that_cannot_be_written_end_no_run(world, tmp_path, streams):
    path = tmp_path / "db.h5"
    call = f'"{sys.executable}" -m TumorQueryLib build "{path}" --entries 1 --atlas "{world.atlas_folder}" {streams}'
    ran = subprocess.run(["sh", "-c", call], capture_output=True, encoding="utf-8", timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert path.is_file()
    assert ("standard output cannot be written" in ran.stderr) == (streams == ">/dev/full")
    refused = subprocess.run(["sh", "-c", call.replace("--entries 1", "--entries 2")], capture_output=True, timeout=120)
    assert refused.returncode == 2


@pytest.mark.slow
@POSIX
def test_text_that_a_stream_cannot_show_ends_no_run(world, tmp_path):
    path = tmp_path / "ü.h5"
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    ran = run("build", path, "--entries", 1, "--atlas", world.atlas_folder, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert "\\xfc.h5: 1 entries" in ran.stdout


@pytest.mark.slow
@POSIX
def test_a_closed_terminal_ends_a_run_like_ctrl_c(world, tmp_path):
    path = tmp_path / "db.h5"
    call = [sys.executable, "-m", "TumorQueryLib", "build", path, "--entries", "100000", "--atlas", world.atlas_folder]
    # Where the tests run under nohup a child would ignore the signal, as it should.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)}
    process = subprocess.Popen([str(word) for word in call], stderr=subprocess.PIPE, encoding="utf-8", **heard)
    while not path.with_name("db.h5.partial").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "cancelled" in said
    assert not path.exists()


@pytest.mark.slow
def test_cancelling_leaves_nothing(tmp_path, sample):
    """SIGTERM in the middle of a run, as a batch system sends it."""
    out = tmp_path / "new" / "out"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "TumorQueryLib", "infer", "--t1gd", str(sample["t1gd"])),
            *("--segmentation", str(sample["segmentation"]), "--labels", sample["labels"], "--out", str(out)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    while not out.exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "cancelled" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_cohort_goes_on_after_a_failure(tmp_path, capsys, world, world_files):
    files = dict(zip(world_files[::2], world_files[1::2]))
    cohort = tmp_path / "cohort.csv"
    with open(cohort, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "t1gd", "segmentation", "labels"])
        writer.writerow(["broken", "nowhere.nii.gz", files["--segmentation"], ""])
        writer.writerow(["Jürgen", files["--t1gd"], files["--segmentation"], files["--labels"]])
    out = tmp_path / "out"
    status, said = called(capsys, "cohort", cohort, "--out", out, *world.options(refine="none"), "--top", 1)
    assert status == 2
    assert "1 of 2 patients failed" in said
    with open(out / "summary.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["patient"] for row in rows] == ["broken", "Jürgen"]
    assert rows[0]["status"] == "failed"
    assert "nowhere.nii.gz" in rows[0]["error"]
    assert rows[1]["status"] == "done"
    result = result_in(out / "Jürgen")
    assert float(rows[1]["dice_sum"]) == result["estimates"]["match"]["fit"]["dice_sum"]
    assert float(rows[1]["match_dice_sum"]) == result["query"]["matches"][0]["dice_sum"]
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


@pytest.mark.slow
def test_a_database_of_an_atlas_that_is_not_bundled_is_evaluated(capsys, tmp_path, world):
    call = ["evaluate", str(world.database), "--synthetic", "2", "--strategies", "direct", "--out", str(tmp_path / "o")]
    assert main(call) == 2
    assert "name its folder with --atlas" in capsys.readouterr().err
    assert main([*call, "--atlas", str(world.atlas_folder)]) == 0
    assert "small brain" in capsys.readouterr().out
    assert main([*call, "--atlas", "SRI24", "--cross-anatomy", "1"]) == 2
    assert "--atlas is not for --cross-anatomy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mass-effect"], "--mass-effect is of the tumours of --cross-anatomy"),
        (["--outline-error", "1"], "--outline-error is of the tumours of --cross-anatomy"),
        (["--variants", "pipeline"], "--variants is of --cross-anatomy N"),
        (["--calibration", "1", "--variants", "pipeline"], "--variants is of --cross-anatomy N"),
        (["--calibration", "1", "--cohort", "a.csv"], "--cohort is not for --calibration"),
        (["--starts", "--registration", "affine"], "--registration is not for --starts"),
        (["--plans", "2", "--cohort", "a.csv"], "--cohort is not for --plans"),
        (["--sensitivity", "--synthetic", "5"], "--synthetic is not for --sensitivity"),
        (["--registration", "affine"], "--registration is of the patients of --cohort"),
        (["--random-seed", "-1"], "--random-seed is a whole number from 0, not -1"),
        *(
            (["--cross-anatomy", "1", f"--{name}", value], f"--{name} is not for --cross-anatomy")
            for name, value in (
                ("cohort", "a.csv"),
                ("strategies", "ds32"),
                ("synthetic", "5"),
                ("registration", "affine"),
            )
        ),
    ],
)
def test_options_of_an_evaluation_without_effect_are_refused(capsys, tmp_path, world, options, words):
    status, said = called(capsys, "evaluate", world.database, "--out", tmp_path / "out", *options)
    assert status == 2
    assert words in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_studies_of_known_truth_share_a_run(capsys, tmp_path, small_resources, monkeypatch):
    monkeypatch.setenv("TUMORQUERY_RESOURCES", str(small_resources))
    monkeypatch.setattr("TumorQueryLib.studies.known_truth.run.run_studies", partial(run_studies, budget_solves=4))
    call = ("evaluate", "starter", "--cross-anatomy", 1, "--calibration", 1, "--variants", "pipeline")
    out = tmp_path / "out"
    status, said = called(capsys, *call, "--outline-error", 1, "--random-seed", 7, "--out", out)
    assert status == 0, said
    names = {f"{study}.{end}" for study in ("cross_anatomy", "calibration") for end in ("json", "csv", "md", "png")}
    assert {path.name for path in out.iterdir()} == names
    for study in ("cross_anatomy", "calibration"):
        text = (out / f"{study}.md").read_text(encoding="utf-8")
        assert "random seed 7, without mass effect, outlines with an error of 1 mm (SD)." in text
    rows = json.loads((out / "cross_anatomy.json").read_text("utf-8"))["cases"]
    assert [row["mode"] for row in rows] == ["none", "atlas", "patient", "assimilated", "patient", "assimilated"]


@pytest.mark.slow
def test_the_random_seed_of_an_evaluation_draws_other_queries(capsys, tmp_path, world):
    call = ("evaluate", world.database, "--atlas", world.atlas_folder, "--synthetic", 2, "--strategies", "direct")
    for folder, options in (("default", ()), ("2022", ("--random-seed", 2022)), ("7", ("--random-seed", 7))):
        status, said = called(capsys, *call, *options, "--out", tmp_path / folder)
        assert status == 0, said
    read = {name: (tmp_path / name / "cases.csv").read_text("utf-8") for name in ("default", "2022", "7")}
    volumes = {name: [row["whole_ml"] for row in csv.DictReader(text.splitlines())] for name, text in read.items()}
    assert volumes["default"] == volumes["2022"] != volumes["7"]
    assert json.loads((tmp_path / "7" / "results.json").read_text("utf-8"))["synthetic_seed"] == 7


def test_a_cohort_takes_workers_or_a_cluster(capsys, tmp_path):
    call = ("cohort", "a.csv", "--out", tmp_path / "out", "--workers", 2, "--dask", "tcp://127.0.0.1:9")
    status, said = called(capsys, *call)
    assert status == 2
    assert "not allowed with argument --workers" in said


def test_images_are_aligned_unless_that_is_declined():
    call = ["infer", "--t1gd", "t1gd.nii", "--segmentation", "seg.nii", "--out", "out"]
    usual = make_parser().parse_args(call)
    assert method_of(usual).align is True
    assert usual.segmentation_on is None
    left = make_parser().parse_args([*call, "--no-align", "--segmentation-on", "flair"])
    assert method_of(left).align is False
    assert left.segmentation_on == "flair"


CALLS_WITH_PATHS = [
    ["study", "{}"],
    ["infer", "--study", "{}", "--out", "out"],
    ["infer", "--t1gd", "{}", "--segmentation", "{}", "--out", "out"],
    ["plan", "{}"],
    ["cohort", "{}", "--out", "out"],
    ["cohort", "{}.csv", "--out", "out"],
    ["bench", "brain", "--cohort", "{}.csv"],
    ["predict-gbm", "{}", "out"],
    ["build", "new.h5", "--entries", "2", "--atlas", "{}"],
    ["export", "{}", "--dicom", "{}", "--out", "out"],
]


@pytest.mark.parametrize("arguments", CALLS_WITH_PATHS, ids=" ".join)
def test_a_path_that_is_too_long_or_may_not_be_looked_up_is_one_sentence(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main([argument.format("/tmp/" + "a" * 300) for argument in arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err
    if hasattr(os, "geteuid"):
        with open_folder() as folder, closed(folder):
            assert main([argument.format(folder / "x" / "y") for argument in arguments]) == 2
        assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--out", ""],
        ["infer", "--t1gd", "a", "--segmentation", "a", "--out", ""],
        ["plan", ""],
        ["study", ""],
        ["cohort", "a.csv", "--out", " "],
        ["build", "", "--entries", "1"],
        ["export", "", "--dicom", "a", "--out", "a"],
    ],
)
def test_an_empty_path_is_not_the_working_folder(capsys, arguments):
    assert main(arguments) == 2
    assert "the path is empty" in capsys.readouterr().err


def test_a_folder_named_as_the_summary_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "out" / "summary.csv").mkdir(parents=True)
    (tmp_path / "patients.csv").write_text("patient,t1gd,segmentation\nA,a.nii.gz,b.nii.gz\n")
    assert main(["cohort", str(tmp_path / "patients.csv"), "--out", str(tmp_path / "out")]) == 2
    assert re.search(r"summary\.csv is a folder, where a file of that name is to be written", capsys.readouterr().err)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["summary.csv"]


@pytest.mark.parametrize("benchmark", ["solver", "query", "pipeline", "brain"])
def test_figures_of_a_benchmark_replace_no_other_json(tmp_path, capsys, benchmark):
    mine = tmp_path / "package.json"
    mine.write_text('{"name": "mine"}')
    assert main(["bench", benchmark, "--json", str(mine)]) == 2
    assert "was not written by a run of TumorQuery" in capsys.readouterr().err
    assert mine.read_text() == '{"name": "mine"}'
