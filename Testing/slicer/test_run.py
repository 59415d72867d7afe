"""The run that leads a worker process from start to end, with real processes below a launcher like Slicer's."""

import os
import signal
import time
from pathlib import Path

import pytest
from harness.driving import child_processes, left_files

PROTOCOL_CHILD = Path(__file__).resolve().parent / "protocol_child"


class Steps:
    """A job whose worker does these steps; its value is what the result file holds."""

    def __init__(self, *steps, watch_stdin=True):
        self.steps, self.watch_stdin = steps, watch_stdin

    def prepare(self, folder):
        yield {}
        yield {"command": "steps", "watch_stdin": self.watch_stdin, "steps": self.steps}

    def collect(self, result_path):
        yield result_path.read_text(encoding="utf-8")


class Follower:
    """A run, and everything that it told."""

    def __init__(self):
        from TumorQueryModule.Worker import Run, WorkerProcess, pythonExecutable, workerEnvironment

        self.progress, self.log, self.outcomes, self.states = [], [], [], []
        self.run = Run(
            lambda: WorkerProcess(pythonExecutable(), workerEnvironment(PROTOCOL_CHILD)),
            onProgress=lambda value, message: self.progress.append((value, message)),
            onLog=self.log.append,
            onFinished=self.outcomes.append,
            onStateChanged=lambda state: self.states.append(state.value),
        )

    def follow(self, until=lambda: False, timeout=60.0):
        deadline = time.monotonic() + timeout
        while not self.outcomes and not until():
            self.run.poll()
            time.sleep(0.01)
            assert time.monotonic() < deadline, (self.states, self.log)
        return self.outcomes[0] if self.outcomes else None

    def do(self, *steps, **options):
        self.run.start(Steps(*steps, **options))
        return self.follow()


@pytest.fixture
def follower(running, guard):
    follower = Follower()
    yield follower
    follower.run.stop()
    assert left_files(guard.folder) == []
    assert child_processes() == []


def test_progress_log_and_result_arrive_in_order(follower):
    outcome = follower.do(
        ["progress", 0.25, "Registering"],
        ["print", "a line of the log, 肿瘤\r\n"],
        ["print", '{"event": "progress", "value": 0.5, "mess'],
        ["sleep", 0.3],
        ["print", 'age": "in two parts"}\n{"no": "event"}\n'],
        ["bytes", 0xE9, 0x0A],
        ["result", "result.json"],
    )
    assert (outcome.status, outcome.value) == ("done", "done")
    assert follower.progress == [(0.25, "Registering"), (0.5, "in two parts")]
    assert follower.log == ["a line of the log, 肿瘤", '{"no": "event"}', "\N{REPLACEMENT CHARACTER}"]
    assert follower.states == ["starting", "running", "idle"]


def test_the_worker_gets_an_environment_that_suits_it(follower):
    follower.do(*(["environment", name] for name in ("ITK_AUTOLOAD_PATH", "PYTHONUTF8", "PYTHONPATH")))
    assert follower.log[:2] == ["", "1"]
    assert follower.log[2].split(os.pathsep)[0] == str(PROTOCOL_CHILD)


def test_a_refused_input_is_told_in_the_workers_words(follower):
    outcome = follower.do(["print", "reading\n"], ["error", "InputError", "The image is empty."])
    assert (outcome.status, outcome.message, outcome.log) == ("failed", "The image is empty.", "reading")


def test_a_crash_comes_with_the_last_lines_of_the_log(follower):
    outcome = follower.do(["print", "before\n"], ["raise", "something broke"])
    assert outcome.status == "failed"
    assert "exit status 1" in outcome.message
    assert outcome.log.splitlines()[0] == "before"
    assert outcome.log.splitlines()[-1] == "RuntimeError: something broke"


def test_a_worker_that_is_killed_is_told_so(follower):
    follower.run.start(Steps(["progress", 0.5, "working"], ["sleep", 600]))
    follower.follow(until=lambda: follower.progress)
    _, interpreter = child_processes()  # below the launcher
    os.kill(interpreter, signal.SIGKILL)
    outcome = follower.follow()
    assert outcome.status == "failed"
    assert "ended from outside" in outcome.message


def test_a_worker_ends_by_itself_when_it_is_asked_to(follower):
    follower.run.start(Steps(["progress", 0.5, "working"], ["sleep", 600]))
    follower.follow(until=lambda: follower.progress)
    assert len(child_processes()) == 2  # the launcher and the interpreter below it
    start = time.monotonic()
    follower.run.cancel("Another patient was chosen.")
    outcome = follower.follow()
    assert (outcome.status, outcome.message) == ("cancelled", "Another patient was chosen.")
    assert time.monotonic() - start < 3.0  # it was not killed
    assert follower.states == ["starting", "running", "cancelling", "idle"]


@pytest.mark.slow
def test_a_worker_that_does_not_listen_is_ended_with_all_that_it_started(follower):
    follower.run.start(Steps(["child"], ["progress", 0.5, "deaf"], ["sleep", 600], watch_stdin=False))
    follower.follow(until=lambda: follower.progress)
    assert len(child_processes()) == 3
    follower.run.cancel()
    assert follower.follow(timeout=20).status == "cancelled"
    assert child_processes() == []


def test_cancelling_before_the_worker_starts_leaves_nothing(follower):
    follower.run.start(Steps(["result", "result.json"]))
    follower.run.poll()
    follower.run.cancel()
    assert follower.outcomes[0].status == "cancelled"
    assert follower.run.state.value == "idle"


def test_stopping_ends_the_worker_at_once(follower):
    follower.run.start(Steps(["child"], ["progress", 0.5, "working"], ["sleep", 600], watch_stdin=False))
    follower.follow(until=lambda: follower.progress)
    follower.run.stop("The scene was closed.")
    assert follower.outcomes[0].message == "The scene was closed."
    assert child_processes() == []


@pytest.mark.skipif(os.name == "nt", reason="the child locks as POSIX has it")
def test_an_export_that_is_ended_leaves_nothing_of_the_patient(follower, tmp_path):
    from TumorQueryModule.Export import ExportJob

    class Writing(ExportJob):
        def prepare(self, folder):
            steps = [["stage", str(self.out)], ["progress", 0.5, "Writing"], ["sleep", 600]]
            yield {"command": "steps", "watch_stdin": False, "steps": steps}

    (out := tmp_path / "chosen").mkdir()
    follower.run.start(Writing(None, out))
    follower.follow(until=lambda: follower.progress)
    assert [path.name for path in out.iterdir()] == [".tumorquery-staged-1"]
    follower.run.stop("The scene was closed.")
    assert list(out.iterdir()) == []


def test_one_run_at_a_time_and_a_new_one_after_it(follower):
    follower.run.start(Steps(["sleep", 600]))
    with pytest.raises(RuntimeError, match="under way"):
        follower.run.start(Steps())
    follower.run.stop()
    follower.outcomes.clear()
    assert follower.do(["result", "result.json"]).status == "done"


def test_a_failing_step_of_the_module_itself_ends_the_run(follower):
    class Broken(Steps):
        def collect(self, result_path):
            yield None
            raise OSError("the disk is full")

    follower.run.start(Broken(["result", "result.json"]))
    outcome = follower.follow()
    assert (outcome.status, outcome.message) == ("failed", "the disk is full")


def test_who_is_told_of_the_end_is_told_once(follower):
    told = []

    def fail(outcome):
        told.append(outcome.status)
        raise ValueError("a defect of whoever is told")

    follower.run._onFinished = fail
    with pytest.raises(ValueError, match="whoever"):
        follower.do(["result", "text"])
    assert told == ["done"]
