"""A job in a child process: `python -m TumorQueryLib.worker JOB.json`, started, listened to and ended.

A process of its own keeps a crash inside a compiled library from its parent, and can be
ended at any moment.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.base.progress import Progress, no_progress

#: Seconds that a child has to end by itself once it was asked to.
PATIENCE = 1.0
#: In the folder of a job: what the worker reads, and what it and its libraries print.
JOB_FILE, LOG_FILE = "job.json", "log"
_WINDOWS = sys.platform == "win32"


def library_environment() -> dict[str, str]:
    """The environment of a process of Python that has to find this library, wherever it is started."""
    library = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": paths}


def remove_job(path: Path) -> None:
    """Remove a job's file, its log and, where nothing else lies in it, its folder."""
    for file in (path, path.with_name(LOG_FILE)):
        with suppress(OSError):
            file.unlink()
    with suppress(OSError):
        path.parent.rmdir()


class Child:
    """A worker in a process of its own.

    Parameters
    ----------
    job : mapping
        What the worker reads: `command`, `arguments`, `out`; JSON-ready.

    Raises
    ------
    InputError
        When the job holds what JSON cannot.
    OutputError
        When the job's file cannot be written, or no process started.
    """

    def __init__(self, job: Mapping[str, Any]) -> None:
        self._ended = threading.Lock()
        try:
            text = json.dumps({**job, "watch_stdin": True, "remove_job": True})
        except (TypeError, ValueError) as error:
            raise InputError(f"The job cannot be handed to a process: {error}; give texts and numbers.") from error
        try:
            # Only this user reads it: it names a patient's files.
            self._folder = Path(tempfile.mkdtemp(prefix="tumorquery-job-"))
            try:
                self._start(text)
            except BaseException:
                shutil.rmtree(self._folder, ignore_errors=True)
                raise
        except OSError as error:
            raise OutputError(
                f"A process for the job cannot be started ({error}); see to the temporary folder and to the machine's "
                "memory, and try again."
            ) from error

    def _start(self, job: str) -> None:
        """Write the job's file and start the worker on it."""
        path = self._folder / JOB_FILE
        path.write_text(job, encoding="utf-8")
        group: dict[str, Any] = (
            {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
            if _WINDOWS
            else {"start_new_session": True}
        )
        with open(self._folder / LOG_FILE, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "TumorQueryLib.worker", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=library_environment(),
                **group,
            )

    def wait(self, *, progress: Progress = no_progress) -> dict[str, Any]:
        """Wait for the job's end.

        Parameters
        ----------
        progress : Progress
            Told what the worker tells; what it raises is raised here and leaves the worker running.

        Returns
        -------
        dict
            The worker's last event: {"event": "result", "path"} or {"event": "error", "kind", "message"}. Where it
            died without a word the kind is "crash", and the message says how.
        """
        last: dict[str, Any] = {}
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("event") == "progress":
                progress(event["value"], event["message"])
            else:
                last = event
        status = self._process.wait()
        return last or {"event": "error", "kind": "crash", "message": _how_it_died(status)}

    def end(self) -> None:
        """Ask the worker to end, and end it with all that it started if it does not; returns when it has ended."""
        with self._ended:
            if self._process.poll() is not None:
                return
            with suppress(OSError):
                assert self._process.stdin is not None
                self._process.stdin.close()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                if _WINDOWS:
                    subprocess.run(["taskkill", "/F", "/T", "/PID", str(self._process.pid)], capture_output=True)
                else:
                    with suppress(ProcessLookupError):
                        os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def close(self) -> None:
        """End the worker if it runs, and remove what it needed."""
        self.end()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _how_it_died(status: int) -> str:
    """A sentence about a process that ended without saying why."""
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        how = f"was ended by {name}"
    else:
        how = f"ended with status {status}"
    memory = " (SIGKILL is what a machine short of memory sends)" if status == -9 else ""
    return (
        f"The process {how}{memory}, most likely inside an image library: one of the files may be damaged; "
        "export it again."
    )
