"""Many patients: what summary.csv says, on threads and on Dask, and that one failure or an end stops cleanly."""

import csv
import json
import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small_world import world_patient, write_patient

from TumorQueryLib.base import parallel
from TumorQueryLib.base.errors import Cancelled, InputError, OutputError
from TumorQueryLib.cohort import SUMMARY_COLUMNS, run_cohort, summary_row

#: Every patient is a process of its own, which takes seconds to start.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cohort_file(tmp_path_factory):
    """Three patients, of whom the second has a file that is no image; paths are relative to the CSV file."""
    folder = tmp_path_factory.mktemp("cohört")
    for name, place in (("Ärla", (28.0, -2.0, 20.0)), ("Bo", (-25.0, 5.0, 15.0))):
        write_patient(folder / name, world_patient(tumour_centre=place))
    (folder / "broken.nii.gz").write_text("no image")
    with open(folder / "cohort.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["patient", "t1gd", "segmentation", "labels"])
        for name in ("Ärla", "broken", "Bo"):
            image = "broken.nii.gz" if name == "broken" else f"{name}/t1gd.nii.gz"
            segmentation = f"{'Bo' if name == 'broken' else name}/segmentation.nii.gz"
            table.writerow([name, image, segmentation, "core=4/whole=2,4"])
    return folder / "cohort.csv"


def summary(out):
    with open(out / "summary.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_rows(rows, out):
    """The rows of the cohort above, as they are returned and as summary.csv has them."""
    assert [row["patient"] for row in rows] == ["Ärla", "broken", "Bo"]
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert "broken.nii.gz" in rows[1]["error"]
    assert not (out / "broken").exists()
    for row in (rows[0], rows[2]):
        content = json.loads((out / row["patient"] / "result.json").read_text(encoding="utf-8"))
        written = summary_row(row["patient"], content)
        assert row == written | {"seconds": row["seconds"]}
    assert rows[0]["entry"] != rows[2]["entry"], "two patients, two tumours"
    read = summary(out)
    assert list(read[0]) == list(SUMMARY_COLUMNS)
    assert read == [{name: str(row.get(name, "")) for name in SUMMARY_COLUMNS} for row in rows]


def dask_workers(cluster):
    """Process ids of a Dask cluster's workers, and the tasks that they do now."""
    import distributed

    with distributed.Client(cluster, set_as_default=False) as client:
        return list(client.run(os.getpid).values()), [task for tasks in client.processing().values() for task in tasks]


def test_several_patients_at_a_time(tmp_path, cohort_file, world):
    said = []
    rows = run_cohort(
        cohort_file,
        tmp_path / "out",
        method=world.method(refine="none"),
        workers=2,
        progress=lambda value, message: said.append((value, message)),
    )
    check_rows(rows, tmp_path / "out")
    assert said[0] == (0.0, "0 of 3 patients")
    assert said[-1] == (1.0, "3 of 3 patients")
    assert [value for value, _ in said] == sorted(value for value, _ in said)


@pytest.fixture(scope="module")
def dask_cluster():
    """A Dask cluster of one worker process, which has a working folder of its own: this one."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as started:
        yield started


def test_on_a_dask_cluster(tmp_path, cohort_file, world, dask_cluster, monkeypatch):
    """Paths are relative to this process's folder, not to the worker's."""
    monkeypatch.chdir(tmp_path)
    database, atlas = (os.path.relpath(path, tmp_path) for path in (world.database, world.atlas_folder))
    method = world.method(refine="none", database=database, atlas=atlas)
    said = []
    rows = run_cohort(
        os.path.relpath(cohort_file, tmp_path),
        "out",
        method=method,
        dask=dask_cluster.scheduler_address,
        progress=lambda value, message: said.append((value, message)),
    )
    check_rows(rows, tmp_path / "out")
    assert [message[0] for _, message in said] == sorted(message[0] for _, message in said)
    assert len(said) > 10, "often enough to end it"


def test_a_model_is_found_from_the_folder_of_a_dask_worker(tmp_path, cohort_file, world, dask_cluster, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.safetensors").write_bytes(b"no model")
    lines = cohort_file.read_text(encoding="utf-8").splitlines()[:2]
    (tmp_path / "cohort.csv").write_text("\n".join(lines).replace("Ärla/", f"{cohort_file.parent}/Ärla/"), "utf-8")
    method = world.method(strategy="ae", strategy_options={"model": "my.safetensors"})
    rows = run_cohort(tmp_path / "cohort.csv", tmp_path / "out", method=method, dask=dask_cluster.scheduler_address)
    assert f"{tmp_path / 'my.safetensors'} is not a model" in rows[0]["error"]


def test_two_cohorts_on_one_scheduler_keep_their_patients_apart(tmp_path, world, dask_cluster):
    """Both have a patient A, at the same time."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.csv").write_text(f"patient,t1gd,whole\nA,{name}.nii.gz,w.nii.gz\n", encoding="utf-8")

    def run(name):
        address = dask_cluster.scheduler_address
        return run_cohort(tmp_path / f"{name}.csv", tmp_path / name, method=world.method(), dask=address)

    with ThreadPoolExecutor(2) as pool:
        for name, (row,) in zip(("one", "two"), pool.map(run, ("one", "two"))):
            assert f"{name}.nii.gz" in row["error"]


@pytest.mark.parametrize("error", [Cancelled, KeyboardInterrupt])
def test_an_end_on_a_dask_cluster_leaves_its_worker_and_nothing_else(tmp_path, cohort_file, world, dask_cluster, error):
    psutil = pytest.importorskip("psutil")
    began = []

    def jobs():
        family = psutil.Process().children(recursive=True)
        return [one for one in family if one.is_running() and "TumorQueryLib.worker" in one.cmdline()]

    def stop(value, message):
        if jobs() and list((tmp_path / "out").glob("*/.*")):
            began.append(time.monotonic())
            raise error

    before, _ = dask_workers(dask_cluster)
    method = world.method(refine_solves=10_000)
    with pytest.raises(error):
        run_cohort(cohort_file, tmp_path / "out", method=method, dask=dask_cluster.scheduler_address, progress=stop)
    assert time.monotonic() - began[0] < 15, "a bound against waiting for a patient's end, not a speed"
    assert jobs() == []
    assert list((tmp_path / "out").iterdir()) == []
    assert dask_workers(dask_cluster) == (before, []), "the Dask worker lives on, and has nothing to do"


def test_a_scheduler_that_is_not_there_is_said(tmp_path, cohort_file, world, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(parallel, "SCHEDULER_ANSWERS_WITHIN_S", 1)
    with pytest.raises(InputError, match=r"No Dask scheduler answers at tcp://127.0.0.1:9"):
        run_cohort(cohort_file, tmp_path / "out", method=world.method(), dask="tcp://127.0.0.1:9")


def test_a_refined_patient_is_summed_up_by_the_refinement(tmp_path, cohort_file, world):
    only = tmp_path / "cohort.csv"
    lines = cohort_file.read_text(encoding="utf-8").splitlines()[:2]
    only.write_text("\n".join(lines).replace("Ärla/", f"{cohort_file.parent}/Ärla/"), encoding="utf-8")
    (row,) = run_cohort(only, tmp_path / "out", method=world.method(refine_solves=4))
    content = json.loads((tmp_path / "out" / "Ärla" / "result.json").read_text(encoding="utf-8"))
    assert row["estimate"] == content["chosen"] == "assimilated"
    assert content["model"] == "refined"
    assert row["dice_sum"] == content["estimates"]["refined"]["fit"]["dice_sum"]
    assert row["dice_sum"] > content["estimates"]["match"]["fit"]["dice_sum"]
    assert row["match_dice_sum"] == content["query"]["matches"][0]["dice_sum"]


def test_a_defect_in_one_patient_does_not_stop_the_rest(tmp_path, cohort_file, world, monkeypatch):
    slip = "import TumorQueryLib.jobs as jobs\n\ndef infer(*_, **__):\n    return 1 / 0\n\njobs.infer = infer\n"
    (tmp_path / "sitecustomize.py").write_text(slip)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    rows = run_cohort(cohort_file, tmp_path / "out", method=world.method())
    assert [row["status"] for row in rows] == ["failed"] * 3
    assert rows[0]["error"] == rows[2]["error"] == "defect: ZeroDivisionError: division by zero"


def test_a_process_that_dies_with_its_files_in_place_is_done(tmp_path, cohort_file, world, monkeypatch):
    """As one is whose result was just moved into place when the cohort was ended."""
    slip = (
        "import os\nimport TumorQueryLib.results.folder as folder\n\nswap = folder._swap\n\n"
        "def swap_and_die(*places):\n    swap(*places)\n    os._exit(1)\n\nfolder._swap = swap_and_die\n"
    )
    (tmp_path / "sitecustomize.py").write_text(slip)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    for _ in range(2):
        rows = run_cohort(cohort_file, tmp_path / "out", method=world.method(refine="none"))
        assert [row["status"] for row in rows] == ["done", "failed", "done"]
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    rows = run_cohort(cohort_file, tmp_path / "out", method=world.method(refine="none"))
    assert [row["status"] for row in rows] == ["failed"] * 3, "results of an earlier run are none of this one"


def test_what_an_earlier_run_left_is_no_result_of_this_one(tmp_path, cohort_file, world, monkeypatch):
    """Files that a killed run did not move into place are moved there by the next, whose process dies."""
    slip = "import os\nimport TumorQueryLib.jobs as jobs\n\njobs.infer = lambda *_, **__: os._exit(1)\n"
    (tmp_path / "sitecustomize.py").write_text(slip)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    folder = tmp_path / "out" / "Bo"
    leftover = folder / ".tumorquery-killed"
    leftover.mkdir(parents=True)
    content = {"version": 2, "software": {"name": "TumorQuery"}, "outputs": {}}
    (folder / "result.json").write_text(json.dumps(content))
    (leftover / ".lock").write_bytes(b"")
    (leftover / "added").write_text(json.dumps({"content": content, "files": ["result.json"]}))
    (leftover / "result.json").write_text(json.dumps(content | {"plan": 1}))
    rows = run_cohort(cohort_file, tmp_path / "out", method=world.method(refine="none"))
    assert [row["status"] for row in rows] == ["failed"] * 3
    assert "ended with status 1" in rows[2]["error"]
    assert json.loads((folder / "result.json").read_text())["plan"] == 1


def children():
    """Process ids of this process's children, whichever thread started them."""
    return [int(pid) for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]


def workers():
    return [pid for pid in children() if b"TumorQueryLib.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc")


@needs_proc
def test_a_process_that_dies_is_one_row(tmp_path, cohort_file, world):
    """What a damaged file does to an image library: the process is gone, without a word."""
    killed = []

    def kill(value, message):
        if not killed and value > 0.1:
            killed.extend(workers())
            os.kill(killed[0], signal.SIGSEGV)

    rows = run_cohort(cohort_file, tmp_path / "out", method=world.method(refine="none"), progress=kill)
    assert [row["status"] for row in rows] == ["failed", "failed", "done"]
    assert "ended by SIGSEGV" in rows[0]["error"]
    assert not (tmp_path / "out" / "Ärla").exists()
    assert [row["status"] for row in summary(tmp_path / "out")] == ["failed", "failed", "done"]


@needs_proc
@pytest.mark.parametrize(("error", "number"), [(Cancelled, 1), (KeyboardInterrupt, 2)])
def test_an_end_halfway_is_immediate_and_leaves_neither_processes_nor_files(
    tmp_path, cohort_file, world, number, error
):
    began = []

    def stop(value, message):
        if message == "1 of 3 patients" and workers():
            began.append(time.monotonic())
            raise error

    with pytest.raises(error):
        run_cohort(cohort_file, tmp_path / "out", method=world.method(refine="none"), workers=number, progress=stop)
    assert time.monotonic() - began[0] < 10, "a bound against waiting for a patient's end, not a speed"
    assert workers() == []
    (row,) = summary(tmp_path / "out")
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == sorted([*([row["patient"]] if row["status"] == "done" else []), "summary.csv"])


def test_a_patient_that_ends_just_before_the_end_has_its_row(tmp_path, cohort_file, world):
    """Done, but not yet looked at when the interrupt comes."""
    out = tmp_path / "out"

    def stop(value, message):
        if message == "0 of 3 patients" and workers():
            while not list(out.glob("*/result.json")):
                time.sleep(0.05)
            time.sleep(1.0)
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run_cohort(cohort_file, out, method=world.method(refine="none"), workers=1, progress=stop)
    done = sorted(path.parent.name for path in out.glob("*/result.json"))
    assert done
    assert sorted(row["patient"] for row in summary(out) if row["status"] == "done") == done


def test_a_number_of_workers_that_is_none_is_refused(tmp_path, cohort_file, world):
    for number in (0, -1, True, 1.5):
        with pytest.raises(InputError, match=f"whole number from 1, not {number}"):
            run_cohort(cohort_file, tmp_path / "out", method=world.method(), workers=number)
    assert not (tmp_path / "out").exists()


def test_a_strategy_that_is_none_is_refused_before_the_work(tmp_path, cohort_file, world):
    with pytest.raises(InputError, match="no option 'rerank'"):
        run_cohort(cohort_file, tmp_path / "out", method=world.method(strategy_options={"rerank": 3}))
    assert not (tmp_path / "out").exists()


def test_a_process_that_cannot_be_started_is_a_row_and_leaves_nothing(tmp_path, cohort_file, world, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    rows = run_cohort(cohort_file, tmp_path / "out", method=world.method())
    assert [row["status"] for row in rows] == ["failed"] * 3
    assert "cannot be started" in rows[0]["error"]
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_summary_is_never_written_over_another_file(tmp_path, cohort_file, world):
    text = cohort_file.read_text(encoding="utf-8")
    for name in ("summary.csv", "cohort.csv"):
        given = tmp_path / name
        given.write_text(text, encoding="utf-8")
        if name == "cohort.csv":
            (tmp_path / "summary.csv").write_text("patient,age\nA,40\n", encoding="utf-8")
        with pytest.raises(OutputError, match=r"is an input of this run|was not written by a run of TumorQuery"):
            run_cohort(given, tmp_path, method=world.method())
    assert (tmp_path / "cohort.csv").read_text(encoding="utf-8") == text


def test_a_summary_that_cannot_be_written_is_said_before_the_work(tmp_path, cohort_file, world):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file"):
        run_cohort(cohort_file, tmp_path / "file" / "out", method=world.method())
