"""The background process: its events, its errors, and that cancelling leaves nothing."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import SimpleITK as sitk
from small_world import world_patient, write_patient

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.worker import read_job


def start(job_path, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "TumorQueryLib.worker", str(job_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        **options,
    )


def write_job(tmp_path, **job):
    path = tmp_path / "jöb.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    return path


def events_of(text):
    return [json.loads(line) for line in text.splitlines()]


def build_job(tmp_path, entries):
    return write_job(
        tmp_path,
        command="build",
        watch_stdin=True,
        arguments={"path": str(tmp_path / "dåta" / "db.h5"), "entries": entries, "workers": 1},
    )


@pytest.mark.slow
def test_a_job_reports_progress_and_its_result(tmp_path):
    (tmp_path / "dåta").mkdir()
    worker = start(build_job(tmp_path, 2))
    # Not communicate(): it would close standard input, which cancels.
    events = events_of(worker.stdout.read())
    assert worker.wait(timeout=60) == 0, worker.stderr.read()
    values = [event["value"] for event in events[:-1]]
    assert {event["event"] for event in events[:-1]} == {"progress"}
    assert values == sorted(values)
    assert all(0 <= value <= 1 for value in values)
    assert events[-1] == {"event": "result", "path": str(tmp_path / "dåta" / "db.h5")}
    assert (tmp_path / "dåta" / "db.h5").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"command": "guess", "arguments": {}}, "command"),
        ({"command": "infer"}, "arguments"),
        ({"command": "infer", "out": "OUT", "arguments": {"t1gd": "nowhere.nii.gz", "whole": "w.nii.gz"}}, "nowhere"),
        ({"command": "match", "arguments": {"result": "OUT", "rank": 0}}, "result.json"),
        ({"command": "info", "out": "OUT", "arguments": {"database": "nowhere.h5"}}, "nowhere"),
        ({"command": "infer", "out": "OUT", "arguments": {"t1gd": "t.nii", "refinement": "none"}}, "refine_solves"),
    ],
)
def test_bad_jobs_end_with_one_error_event(tmp_path, job, words):
    job = json.loads(json.dumps(job).replace("OUT", str(tmp_path / "out")))
    worker = start(write_job(tmp_path, **job))
    out, log = worker.communicate(timeout=120)
    last = events_of(out)[-1]
    assert worker.returncode == 2, log
    assert last["event"] == "error"
    assert last["kind"] in ("InputError", "DatabaseError")
    assert words in last["message"]
    assert "Traceback" not in log
    assert not (tmp_path / "out").exists()


def test_the_commands_are_the_jobs_that_there_are():
    from TumorQueryLib.jobs import JOBS
    from TumorQueryLib.worker import COMMANDS

    assert set(COMMANDS) == set(JOBS)


@pytest.mark.slow
def test_an_inference_and_another_of_its_matches(tmp_path, world):
    """Both jobs of the Slicer module, one after the other, in an atlas of one's own."""
    arguments = write_patient(tmp_path / "files", world_patient()) | world.method(refine="none", top=3).as_json()
    job = {"command": "infer", "out": str(tmp_path / "résult"), "arguments": arguments}
    out, log = start(write_job(tmp_path, **job)).communicate(timeout=300)
    path = tmp_path / "résult" / "result.json"
    assert events_of(out)[-1] == {"event": "result", "path": str(path)}, log
    assert len(json.loads(path.read_text(encoding="utf-8"))["query"]["matches"]) == 3
    arguments = {"result": str(path.parent), "rank": 0, "atlas": str(world.atlas_folder)}
    out, log = start(write_job(tmp_path, command="match", arguments=arguments)).communicate(timeout=300)
    again = path.parent / "match_0" / "density.nrrd"
    assert events_of(out)[-1] == {"event": "result", "path": str(again)}, log
    shown, best = (sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in (again, path.parent / "density.nrrd"))
    np.testing.assert_allclose(shown, best, atol=1e-5)


def wait_for_progress(worker):
    while True:
        line = worker.stdout.readline()
        assert line, worker.stderr.read()
        if json.loads(line)["value"] > 0:
            return


@pytest.mark.slow
@pytest.mark.parametrize("how", ["command", "closed"])
def test_cancelling_ends_the_process_and_leaves_no_result(tmp_path, how):
    (tmp_path / "dåta").mkdir()
    worker = start(build_job(tmp_path, 5000))
    wait_for_progress(worker)
    if how == "command":
        worker.stdin.write('not json\n{"command": "cancel"}\n')
        worker.stdin.flush()
    else:
        worker.stdin.close()
        worker.stdin = None
    before = time.monotonic()
    _, log = worker.communicate(timeout=60)
    assert worker.returncode == 130, log
    # Generous: it asks for at most the grace of two seconds, on a machine that may be loaded.
    assert time.monotonic() - before < 30
    assert not (tmp_path / "dåta" / "db.h5").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="an open log cannot be removed there")
@pytest.mark.slow
def test_a_killed_parent_leaves_no_job_that_names_a_patients_files(tmp_path):
    (tmp_path / "temporary").mkdir()
    script = (
        "import os, signal, sys\n"
        "from TumorQueryLib.base.child import Child\n"
        "def die(value, message):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "arguments = {'path': sys.argv[1], 'entries': 5000, 'workers': 1}\n"
        "Child({'command': 'build', 'arguments': arguments}).wait(progress=die)\n"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path / "db.h5")], env=environment, timeout=120)
    assert ran.returncode == -signal.SIGKILL
    before = time.monotonic()
    while list((tmp_path / "temporary").glob("tumorquery-job-*")) and time.monotonic() - before < 60:
        time.sleep(0.1)
    assert list((tmp_path / "temporary").glob("tumorquery-job-*")) == []


@pytest.mark.slow
def test_a_job_that_is_removed_takes_nothing_else_along(tmp_path):
    path = write_job(tmp_path, command="info", out=str(tmp_path), arguments={"database": "nowhere.h5"}, remove_job=True)
    (tmp_path / "other").write_text("mine")
    start(path).communicate(timeout=120)
    assert [one.name for one in tmp_path.iterdir()] == ["other"]


@pytest.mark.slow
def test_printing_never_mixes_with_events(tmp_path):
    """Whatever a library prints, from C as well, is log."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from TumorQueryLib import jobs, worker\n"
        "def noisy(job, *, progress):\n"
        "    print('from Python'); os.write(1, b'from C\\n'); progress(0.5, 'half')\n"
        "    return Path('x')\n"
        "jobs.JOBS['info'] = noisy\n"
        "sys.exit(worker.main(sys.argv[1:]))\n"
    )
    job = write_job(tmp_path, command="info", arguments={})
    ran = subprocess.run(
        [sys.executable, "-c", script, str(job)],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert [event["event"] for event in events_of(ran.stdout)] == ["progress", "result"]
    assert "from Python" in ran.stderr
    assert "from C" in ran.stderr


def test_a_pipe_is_no_job_file(tmp_path):
    """Reading it would wait for ever."""
    os.mkfifo(tmp_path / "job.json")
    for path in (tmp_path / "job.json", tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError, match=r"job file .* cannot be read: (it is no regular file|No such file)"):
            read_job(str(path))
