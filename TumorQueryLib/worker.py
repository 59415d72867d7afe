"""The background process of the Slicer module: `python -m TumorQueryLib.worker JOB.json`.

It writes one JSON object a line to standard output: {"event": "progress", "value",
"message"} while it works, then {"event": "result", "path"} or {"event": "error",
"kind", "message"}. Everything else that is printed, by C++ libraries too, goes to
standard error and is log. Where the job says `watch_stdin`, it ends when its standard
input closes, since then its parent has died, and on {"command": "cancel"} there. Where
it says `remove_job`, as those of `base.child.Child` do, the job's file and log, which name
a patient's files, are removed when the worker ends, since its parent may be dead by then.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from TumorQueryLib.base.child import remove_job
from TumorQueryLib.base.errors import Cancelled, InputError, TumorQueryError
from TumorQueryLib.base.files import moving, parsed_json, regular_bytes, unfinished_folders

#: Seconds that a cancelled job has to end by itself.
GRACE = 2.0


class Events:
    """Writes events to the stream that the parent reads.

    Parameters
    ----------
    stream : text stream
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, **event: Any) -> None:
        """Write one event as a line; a parent that is gone is not told."""
        with self._lock:
            try:
                self._stream.write(json.dumps(event) + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                pass


def take_standard_output() -> TextIO:
    """Keep standard output for events; whatever else writes there goes to standard error."""
    sys.stdout.flush()
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return events


def watch_standard_input(cancelled: threading.Event, at_end: Callable[[], object]) -> None:
    """Set `cancelled` on a cancel command or when standard input closes, and see that the process ends.

    `at_end` is called where the process is ended in the middle of its work.
    """

    def watch() -> None:
        while not cancelled.is_set():
            line = sys.stdin.readline()
            if not line or is_cancel_command(line):
                cancelled.set()
        time.sleep(GRACE)
        # Still here: in one long call of a library. End without it, and leave no file.
        with moving:
            for folder in list(unfinished_folders):
                shutil.rmtree(folder, ignore_errors=True)
            at_end()
            os._exit(130)

    threading.Thread(target=watch, daemon=True, name="watch-stdin").start()


def is_cancel_command(line: str) -> bool:
    """Whether a line of standard input asks to cancel; other lines are ignored."""
    try:
        command = json.loads(line)
    except ValueError:
        return False
    return isinstance(command, dict) and command.get("command") == "cancel"


COMMANDS = ("infer", "match", "plan", "strip", "export", "build", "info")


def read_job(path: str) -> dict[str, Any]:
    """Read and check a job file.

    Raises
    ------
    InputError
        When it is not a JSON object with a known command.
    """
    try:
        job = parsed_json(regular_bytes(path).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The job file {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if not isinstance(job, dict) or job.get("command") not in COMMANDS or not isinstance(job.get("arguments"), dict):
        raise InputError(
            f"The job file {path} must be an object with 'arguments' and a 'command' of {', '.join(COMMANDS)}."
        )
    return job


def main(arguments: list[str] | None = None) -> int:
    """Do one job; returns the exit status of the command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    events = Events(take_standard_output())
    cancelled = threading.Event()

    def progress(value: float, message: str) -> None:
        if cancelled.is_set():
            raise Cancelled("The run was cancelled.")
        events.send(event="progress", value=round(min(max(value, 0.0), 1.0), 4), message=message)

    at_end = ExitStack()
    try:
        if len(arguments) != 1:
            raise InputError("The worker takes one argument, the path of a job file.")
        job = read_job(arguments[0])
        if job.get("remove_job"):
            at_end.callback(remove_job, Path(arguments[0]))
        if job.get("watch_stdin"):
            watch_standard_input(cancelled, at_end.close)
        from TumorQueryLib.jobs import JOBS

        path = str(JOBS[job["command"]](job, progress=progress))
    except (Cancelled, KeyboardInterrupt):
        events.send(event="error", kind="Cancelled", message="The run was cancelled.")
        return 130
    except TumorQueryError as error:
        events.send(event="error", kind=type(error).__name__, message=str(error))
        return 2
    except Exception as error:
        traceback.print_exc()
        events.send(event="error", kind="defect", message=f"{type(error).__name__}: {error}")
        return 1
    else:
        events.send(event="result", path=path)
        return 0
    finally:
        at_end.close()


if __name__ == "__main__":
    sys.exit(main())
