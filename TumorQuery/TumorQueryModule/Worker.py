"""The worker of TumorQueryLib in a child process, and the run that leads it from start to end.

Nothing here knows Qt or MRML: whoever owns a `Run` calls its `poll()`, a QTimer in
the panel, a plain loop in scripts.
"""

import contextlib
import enum
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slicer.i18n import tr as _

#: How often a run is carried on, milliseconds.
POLL_INTERVAL = 50

#: How long a worker may take to end by itself once it was asked to, seconds.
CANCEL_PATIENCE = 3.0

#: How many of the last lines of the log go with an error.
LOG_LINES_OF_ERROR = 50


def pythonExecutable() -> str:
    """The interpreter that has Slicer's packages; Slicer puts its folder on the PATH.

    :raises RuntimeError: when it is not there.
    """
    executable = shutil.which("PythonSlicer")
    if not executable:
        raise RuntimeError(_("PythonSlicer was not found on the PATH. Start Slicer by its own launcher."))
    return executable


def workerEnvironment(libraryFolder: Path) -> dict[str, str]:
    """Slicer's own environment, changed where it would harm the worker.

    :param libraryFolder: the folder that holds TumorQueryLib.
    """
    environment = dict(os.environ)
    paths = [str(libraryFolder), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    # Slicer's ITK plugins crash the SimpleITK of another ITK build (Slicer issue 8947).
    environment["ITK_AUTOLOAD_PATH"] = ""
    environment["PYTHONUTF8"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8"
    environment["PYTHONUNBUFFERED"] = "1"
    # One core is left to the views and the panel, where there is one to spare.
    processors = os.cpu_count() or 1
    threads = str(processors - 1 if processors > 2 else processors)
    environment["NUMBA_NUM_THREADS"] = threads
    environment["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = threads
    return environment


class WorkerProcess:
    """`python -m TumorQueryLib.worker JOB.json`, its output read without waiting for it.

    The process leads a group of its own (POSIX) or is the root of a tree (Windows), because
    PythonSlicer is a launcher: the interpreter is its child and has to end with it.

    :param executable: the Python interpreter.
    :param environment: all environment variables of the process.
    """

    def __init__(self, executable: str, environment: dict[str, str]) -> None:
        self._executable = executable
        self._environment = environment
        self._process: subprocess.Popen | None = None
        self._pending = b""

    def start(self, jobFile: Path) -> None:
        """Start the worker with a job file.

        :raises OSError: when the interpreter cannot be started.
        """
        ofItsOwn: dict[str, Any] = {"start_new_session": True}
        if os.name == "nt":
            ofItsOwn = {"creationflags": subprocess.CREATE_NO_WINDOW}
        self._process = subprocess.Popen(
            [self._executable, "-m", "TumorQueryLib.worker", str(jobFile)],
            env=self._environment,
            cwd=str(jobFile.parent),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            **ofItsOwn,
        )
        # Python 3.12, that of Slicer, can do this to pipes on Windows too.
        os.set_blocking(self._process.stdout.fileno(), False)

    @property
    def processId(self) -> int | None:
        """Id of the started process, None before the start."""
        return self._process.pid if self._process else None

    def readLines(self) -> list[str]:
        """The lines that arrived since the last call; after the end, an unfinished one too."""
        if self._process is None:
            return []
        ended = self._process.poll() is not None
        stdout = self._process.stdout
        while not stdout.closed:
            try:
                chunk = os.read(stdout.fileno(), 65536)
            except BlockingIOError:
                break
            if not chunk:
                stdout.close()
                break
            self._pending += chunk
        *lines, self._pending = self._pending.split(b"\n")
        if ended and self._pending:
            lines.append(self._pending)
            self._pending = b""
        return [line.decode("utf-8", errors="replace").rstrip("\r") for line in lines]

    def exitCode(self) -> int | None:
        """The exit status, None while the process runs."""
        return self._process.poll() if self._process else None

    def askToCancel(self) -> None:
        """Ask the worker to stop; it cleans up and ends by itself."""
        if self._process is None or self._process.poll() is not None:
            return
        with contextlib.suppress(OSError):  # it has just ended
            self._process.stdin.write(b'{"command": "cancel"}\n')
            self._process.stdin.close()

    def kill(self) -> None:
        """End the process and all that it started, and wait until they are gone."""
        if self._process is None:
            return
        if os.name == "nt":
            subprocess.run(
                ["taskkill", "/PID", str(self._process.pid), "/T", "/F"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                creationflags=subprocess.CREATE_NO_WINDOW,
                check=False,
            )
        else:
            with contextlib.suppress(ProcessLookupError):  # nothing of the group is left
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.close()

    def close(self) -> None:
        """Close the pipes; a worker that was left behind sees its standard input close, and ends."""
        for pipe in (self._process.stdin, self._process.stdout) if self._process else ():
            with contextlib.suppress(OSError):
                pipe.close()


class Job(Protocol):
    """What a run does before and after the worker, in steps that are each short enough for the GUI's thread."""

    def prepare(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Write the inputs into a folder; yields after every step, at last the job file's content."""
        ...

    def collect(self, resultPath: Path) -> Iterator[Any]:
        """Take the results out of the folder, which goes away after it.

        Yields None after every step that may still be cancelled, then, after all that changes the scene, the value.
        """
        ...

    # A job whose worker writes elsewhere also has `removeLeft`, called when the worker is gone, perhaps killed.


class RunState(enum.Enum):
    """Where a run is."""

    Idle = "idle"
    Starting = "starting"
    Running = "running"
    Cancelling = "cancelling"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    :param status: "done", "cancelled" or "failed".
    :param message: a sentence for the user; empty when done.
    :param log: the last lines of the log.
    :param value: what the job's `collect` gave at its end.
    """

    status: str
    message: str = ""
    log: str = ""
    value: Any = None


class Run:
    """One job at a time: idle -> starting -> running -> idle, by way of cancelling where it is asked for.

    The temporary folder of a job is gone when the run is idle again, however it ended.

    :param makeProcess: gives a new `WorkerProcess` (or the like) for every job.
    :param onProgress: called with a fraction in [0, 1] and a message.
    :param onLog: called with every line that is no event.
    :param onFinished: called with the `Outcome`, after the run became idle.
    :param onStateChanged: called with the new `RunState`.
    """

    def __init__(
        self,
        makeProcess: Callable[[], WorkerProcess],
        onProgress: Callable[[float, str], None] = lambda value, message: None,
        onLog: Callable[[str], None] = lambda line: None,
        onFinished: Callable[[Outcome], None] = lambda outcome: None,
        onStateChanged: Callable[[RunState], None] = lambda state: None,
    ) -> None:
        self._makeProcess = makeProcess
        self._onProgress = onProgress
        self._onLog = onLog
        self._onFinished = onFinished
        self._onStateChanged = onStateChanged
        self._state = RunState.Idle
        self._log: deque[str] = deque(maxlen=LOG_LINES_OF_ERROR)
        self._folder: Path | None = None

    @property
    def state(self) -> RunState:
        """Where the run is."""
        return self._state

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the job."""
        return time.monotonic() - self._startTime

    def start(self, job: Job) -> None:
        """Begin a job; `poll` carries it on.

        :raises RuntimeError: when another job is under way.
        """
        if self._state is not RunState.Idle:
            raise RuntimeError(_("A run is under way. Wait for its end, or cancel it."))
        self._job = job
        self._process: WorkerProcess | None = None
        self._log.clear()
        self._ending: dict[str, Any] | None = None
        self._cancelMessage = ""
        self._startTime = time.monotonic()
        self._folder = Path(tempfile.mkdtemp(prefix="TumorQuery-"))
        self._steps: Iterator[Any] = job.prepare(self._folder)
        self._lastStep: Any = None
        self._collecting = False
        self._setState(RunState.Starting)

    def poll(self) -> None:
        """Do what is due now; call it a few times a second until the run is idle."""
        if self._state is RunState.Idle:
            return
        try:
            if self._state is RunState.Starting:
                self._prepare()
            elif self._collecting:
                self._collect()
            else:
                self._follow()
        except Exception as error:
            if self._state is RunState.Idle:  # it has ended, and whoever was told failed
                raise
            self._finish(Outcome("failed", str(error), self._logText()))

    def cancel(self, message: str = "") -> None:
        """Ask the job to stop; the run is idle within `CANCEL_PATIENCE` seconds of polling.

        :param message: why, where it was not the user who asked.
        """
        if self._state not in (RunState.Starting, RunState.Running):
            return
        self._cancelMessage = message
        if self._process is None or self._collecting:
            self._finish(Outcome("cancelled", message))
            return
        self._process.askToCancel()
        self._deadline = time.monotonic() + CANCEL_PATIENCE
        self._setState(RunState.Cancelling)

    def stop(self, message: str = "") -> None:
        """End the job at once: the scene closes, a node is gone or Slicer quits."""
        if self._state is not RunState.Idle:
            self._finish(Outcome("cancelled", message))

    def _prepare(self) -> None:
        try:
            self._lastStep = next(self._steps)
        except StopIteration:
            jobFile = self._folder / "job.json"
            jobFile.write_text(json.dumps(self._lastStep), encoding="utf-8")
            self._process = self._makeProcess()
            self._process.start(jobFile)
            self._setState(RunState.Running)

    def _follow(self) -> None:
        exitCode = self._process.exitCode()  # before the lines: what is read after the end is complete
        for line in self._process.readLines():
            self._take(line)
        if exitCode is not None:
            self._end(exitCode)
        elif self._state is RunState.Cancelling and time.monotonic() > self._deadline:
            self._finish(Outcome("cancelled", self._cancelMessage))

    def _take(self, line: str) -> None:
        event = parseEvent(line)
        if event is None:
            self._log.append(line)
            self._onLog(line)
        elif event["event"] == "progress":
            if self._state is RunState.Running:
                self._onProgress(event["value"], event["message"])
        else:
            self._ending = event

    def _end(self, exitCode: int) -> None:
        ending = self._ending
        if self._state is RunState.Cancelling or (ending and ending.get("kind") == "Cancelled"):
            self._finish(Outcome("cancelled", self._cancelMessage))
        elif ending and ending["event"] == "result":
            self._steps = self._job.collect(Path(ending["path"]))
            self._collecting = True
        elif ending and ending["kind"] != "defect":
            self._finish(Outcome("failed", ending["message"], self._logText()))
        else:
            self._finish(Outcome("failed", endedWithoutResult(exitCode, ending), self._logText()))

    def _collect(self) -> None:
        value = next(self._steps)
        if value is not None:  # the scene holds it: nobody can cancel between this and its end
            self._finish(Outcome("done", "", self._logText(), value))

    def _finish(self, outcome: Outcome) -> None:
        close = getattr(self._steps, "close", None)
        if close:
            close()
        if self._process is not None:
            self._process.kill()
            removeLeft = getattr(self._job, "removeLeft", None)
            if removeLeft:
                try:
                    removeLeft()
                except Exception:  # the run has to end all the same
                    traceback.print_exc()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None
        self._setState(RunState.Idle)
        self._onFinished(outcome)

    def _setState(self, state: RunState) -> None:
        self._state = state
        self._onStateChanged(state)

    def _logText(self) -> str:
        return "\n".join(self._log)


def parseEvent(line: str) -> dict[str, Any] | None:
    """The event that a line of the worker holds; None for a line of its log."""
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    keys = {"progress": ("value", "message"), "result": ("path",), "error": ("kind", "message")}
    if not isinstance(event, dict) or event.get("event") not in keys:
        return None
    return event if all(key in event for key in keys[event["event"]]) else None


def endedWithoutResult(exitCode: int, ending: dict[str, Any] | None) -> str:
    """A sentence for a worker that ended by a defect, or without a word."""
    if ending:
        return _("The computation failed by a defect of TumorQuery: {message}").format(message=ending["message"])
    if exitCode in (-signal.SIGTERM, -9, 137):
        return _(
            "The computation was ended from outside (exit status {exitCode}). "
            "Often the memory had run out: close other programs, or choose the affine registration."
        ).format(exitCode=exitCode)
    return _("The computation ended without a result (exit status {exitCode}).").format(exitCode=exitCode)
