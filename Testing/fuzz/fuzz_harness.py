"""Running a target's inputs in child processes, so that a crash is one line of a tally and not its end."""

import importlib
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

#: Targets (modules beside this one), and the inputs of a full run.
TARGETS = {
    "database_fields": 20_000,
    "database_bytes": 5_000,
    "jobs": 5_000,
    "codes": 5_000,
    "models": 5_000,
    "results": 5_000,
    "cohorts": 5_000,
    "images": 5_000,
    "segmentations": 5_000,
}
#: Inputs that one child process tries.
BATCH = 500
#: Seconds of the processor after which an input counts as a hang, and of the clock where it only waits.
CPU_LIMIT, CLOCK_LIMIT = 5, 60
#: Bytes of address space that an input may ask for.
MEMORY_LIMIT = 12 * 2**30
HERE = Path(__file__).resolve().parent


@dataclass
class Tally:
    """How often each outcome came, and the inputs that are faults."""

    target: str
    outcomes: Counter = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)

    def add(self, number: int, outcome: str) -> None:
        kind = outcome.partition(": ")[0]
        self.outcomes[kind] += 1
        if kind in ("exception", "wrong", "crash", "hang"):
            self.faults.append((number, outcome))

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {kind}" for kind, count in self.outcomes.most_common())
        lines = [f"{self.target}: {sum(self.outcomes.values())} inputs: {counts}"]
        groups: dict[str, list[int]] = {}
        for number, outcome in self.faults:
            groups.setdefault(outcome, []).append(number)
        for outcome, numbers in sorted(groups.items(), key=lambda item: -len(item[1])):
            lines.append(f"  {len(numbers)} x {outcome[:300]} (inputs {', '.join(map(str, numbers[:5]))})")
        return "\n".join(lines)


def run(target: str, count: int, random_seed: int = 0) -> Tally:
    """Try inputs 0 to count - 1 of a target."""
    tally = Tally(target)
    first = 0
    while first < count:
        first = _run_batch(tally, random_seed, first, min(first + BATCH, count))
    return tally


def _run_batch(tally: Tally, random_seed: int, first: int, stop: int) -> int:
    """Try inputs in one child; returns the first that was not tried."""
    call = [sys.executable, str(HERE), tally.target, "--random-seed", str(random_seed), "--child", first, stop]
    with tempfile.TemporaryDirectory(prefix="tumorquery-fuzz-") as folder, open(Path(folder, "log"), "w+") as log:
        environment = os.environ | {"TMPDIR": folder, "TUMORQUERY_CACHE": f"{folder}/cache"}
        process = subprocess.Popen(
            [str(word) for word in call], stdout=subprocess.PIPE, stderr=log, env=environment, cwd=folder
        )
        started, done = None, first
        buffer = b""
        while True:
            # The first line comes after the target is prepared.
            ready, _, _ = select.select([process.stdout], [], [], CLOCK_LIMIT * (1 if started is not None else 10))
            if not ready:
                process.kill()
                process.wait()
                tally.add(done, "hang: it only waits")
                return done + 1
            piece = os.read(process.stdout.fileno(), 2**16)
            if not piece:
                break
            buffer += piece
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                event = json.loads(line)
                if "outcome" in event:
                    tally.add(event["number"], event["outcome"])
                    done = event["number"] + 1
                else:
                    started = event["number"]
        status = process.wait()
        if done == stop and status == 0:
            return stop
        if started is None:
            log.seek(0)
            raise RuntimeError(f"the target {tally.target} could not be prepared:\n{log.read()[-3000:]}")
        if done == stop:
            tally.add(stop - 1, f"crash: at the end, status {status}")
            return stop
        if status == -signal.SIGPROF:
            tally.add(done, f"hang: more than {CPU_LIMIT} s")
        else:
            log.seek(0)
            name = signal.Signals(-status).name if status < 0 else f"status {status}"
            tally.add(done, f"crash: {name} {log.read()[-200:] if status > 0 else ''}")
        return done + 1


def child(target: str, random_seed: int, first: int, stop: int, *, show: bool = False) -> None:
    """Try inputs in this process; an event before and after each on standard output."""
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, str(HERE.parent / "unit"))
    from TumorQueryLib.base.errors import TumorQueryError

    module = importlib.import_module(target)
    with tempfile.TemporaryDirectory(prefix="tumorquery-fuzz-") as folder:
        prepared = module.prepare(Path(folder))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        for number in range(first, stop):
            # A seed of its own for each, so that each can be tried again alone.
            generator = random.Random(f"{target} {random_seed} {number}")
            print(json.dumps({"number": number}), file=events, flush=True)
            signal.setitimer(signal.ITIMER_PROF, 0 if show else CPU_LIMIT)
            try:
                outcome = module.attempt(prepared, generator)
            except TumorQueryError as error:
                said = str(error)
                outcome = "refused" if said.strip() and "\n" not in said else f"wrong: no sentence: {said!r}"
                if show:
                    traceback.print_exc()
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                outcome = f"exception: {type(error).__name__}: {' '.join(str(error).split())[:150]}"
                outcome += f" at {Path(place.filename).name}:{place.lineno}"
                if show:
                    traceback.print_exc()
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(json.dumps({"number": number, "outcome": outcome}), file=events, flush=True)
