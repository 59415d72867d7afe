"""Runs ended at random moments by a signal: nothing is mixed, nothing is left that a next run keeps.

    python Testing/fuzz/kills.py COMMAND COUNT [SEED]
    COMMAND: infer, cohort, build or embed; infer-whole and cohort-whole register and refine

Real commands in child processes, on the small world of the unit tests. Prints a line for each run
and for each kind of end, and exits with 1 if any run left what it must not.
"""

from __future__ import annotations

import collections
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "unit")]

from small_world import World, world_patient, write_patient  # noqa: E402

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "TumorQueryLib", *map(str, words)]


def seconds_of(call: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(call, env=ENVIRONMENT, check=True, capture_output=True)
    return time.monotonic() - began


def ended_at(call: list[str], after: float, number: signal.Signals) -> int:
    """Start a command, end it after some seconds; returns its exit status."""
    child = subprocess.Popen(
        call, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        child.wait(after)
    except subprocess.TimeoutExpired:
        child.send_signal(number)
    return child.wait(60)


def contents(folder: Path) -> dict[str, str]:
    """What the files below a folder hold, without the seconds and the time that some of them hold.

    Volumes and databases by their SHA-256, result.json by what it says of the patient and the estimates; the files
    whose sums a result.json holds have to be those, else they are "another result's".
    """
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in (".nrrd", ".h5", ".json", ".png", ".csv")
    }
    for name in [name for name in found if name.endswith("result.json")]:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        for file, digest in content["sha256"].items():
            beside = f"{name.removesuffix('result.json')}{file}"
            if found.get(beside) != digest:
                found[beside] = "another result's"
            elif "_to_" in file:  # HDF5 writes the time into it
                found[beside] = "as result.json says"
        told = {key: content[key] for key in ("inputs", "query", "estimates", "chosen", "outputs", "warnings")}
        found[name] = json.dumps(told, sort_keys=True)
    # The report shows seconds, the summary holds them.
    return {name: value for name, value in found.items() if not name.endswith((".png", "summary.csv"))}


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")] + [path.name for path in folder.rglob("*.partial")]


#: The method of the short runs, and of the whole ones.
SHORT = {"registration": "none", "refine": "none"}
WHOLE = {"registration": "deformable", "refine": "patient"}


class Infer:
    """Half of the runs go into a folder that holds another patient's result."""

    def __init__(self, world: World, folder: Path, method: dict[str, str]) -> None:
        self.out = folder / "out"
        self.calls, self.wholes = [], []
        for number, place in enumerate(((28.0, -2.0, 20.0), (-25.0, 5.0, 15.0))):
            files = write_patient(folder / f"patient {number}", world_patient(tumour_centre=place))
            given = [word for name, value in files.items() for word in (f"--{name.replace('_', '-')}", value)]
            self.calls.append(command("infer", *given, "--out", self.out, *world.options(**method)))
            self.seconds = seconds_of(self.calls[number])
            self.wholes.append(contents(self.out))
            shutil.rmtree(self.out)

    def trial(self, random_number: random.Random) -> str:
        earlier = random_number.random() < 0.5
        if earlier:
            subprocess.run(self.calls[1], env=ENVIRONMENT, check=True, capture_output=True)
        number = random_number.choice(SIGNALS)
        ended_at(self.calls[0], random_number.uniform(0.3, 1.05) * self.seconds, number)
        found = contents(self.out) if self.out.exists() else {}
        visible = {name: digest for name, digest in found.items() if not name.startswith(".tumorquery-")}
        reads = (self.out / "result.json").exists()
        if reads and visible not in self.wholes:
            return "MIXED"
        if not reads and earlier and number != signal.SIGKILL:
            return "EARLIER RESULT LOST"
        if number != signal.SIGKILL and self.out.exists() and hidden(self.out):
            return "LEFT BEHIND"
        subprocess.run(self.calls[0], env=ENVIRONMENT, check=True, capture_output=True)
        if contents(self.out) != self.wholes[0] or hidden(self.out):
            return "NEXT RUN NOT CLEAN"
        shutil.rmtree(self.out)
        return f"{number.name}: {'whole' if reads else 'none'}{' beside an earlier one' if earlier else ''}"


class Cohort:
    """Three patients, two at a time."""

    def __init__(self, world: World, folder: Path, method: dict[str, str]) -> None:
        self.out = folder / "out"
        places = {"A": (28.0, -2.0, 20.0), "B": (-25.0, 5.0, 15.0), "C": (20.0, 10.0, 5.0)}
        with open(folder / "cohort.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["patient", "t1gd", "segmentation", "labels"])
            for name, place in places.items():
                files = write_patient(folder / name, world_patient(tumour_centre=place))
                table.writerow([name, files["t1gd"], files["segmentation"], files["labels"]])
        options = ["--out", self.out, "--workers", 2, *world.options(**method)]
        self.call = command("cohort", folder / "cohort.csv", *options)
        self.seconds = seconds_of(self.call)
        self.whole = contents(self.out)
        shutil.rmtree(self.out)

    def trial(self, random_number: random.Random) -> str:
        number = random_number.choice(SIGNALS)
        ended_at(self.call, random_number.uniform(0.2, 1.0) * self.seconds, number)
        time.sleep(3 if number == signal.SIGKILL else 0)  # its children notice that their parent is gone
        done = {path.parent.name for path in self.out.glob("*/result.json")}
        listed: set[str] = set()
        if (self.out / "summary.csv").exists():
            with open(self.out / "summary.csv", newline="", encoding="utf-8") as file:
                listed = {row["patient"] for row in csv.DictReader(file) if row["status"] == "done"}
        for name in done:
            if {k: v for k, v in contents(self.out / name).items() if "/" not in k} != {
                k.split("/")[1]: v for k, v in self.whole.items() if k.startswith(f"{name}/")
            }:
                return "MIXED"
        if number != signal.SIGKILL and self.out.exists():
            if done - listed:
                return "ROWS MISSING"
            if hidden(self.out):
                return "LEFT BEHIND"
        subprocess.run(self.call, env=ENVIRONMENT, check=True, capture_output=True)
        if contents(self.out) != self.whole or hidden(self.out):
            return "NEXT RUN NOT CLEAN"
        shutil.rmtree(self.out)
        return f"{number.name}: {len(done)} done, {len(listed)} listed"


class Build:
    """A build that `--resume` continues to the same bytes."""

    def __init__(self, world: World, folder: Path) -> None:
        self.database = folder / "built.h5"
        self.call = command(
            "build", self.database, "--entries", 200, "--atlas", world.atlas_folder, "--workers", 2, "--resume"
        )
        self.seconds = seconds_of(self.call)
        self.whole = self.database.read_bytes()
        self.database.unlink()

    def trial(self, random_number: random.Random) -> str:
        number = random_number.choice(SIGNALS)
        ended_at(self.call, random_number.uniform(0.3, 1.0) * self.seconds, number)
        finished = self.database.exists()
        if finished and self.database.read_bytes() != self.whole:
            return "ANOTHER DATABASE"
        if finished:
            self.database.unlink()
        subprocess.run(self.call, env=ENVIRONMENT, check=True, capture_output=True)
        left = [path.name for path in self.database.parent.glob("*built*") if path != self.database]
        if self.database.read_bytes() != self.whole or left:
            return "NEXT RUN NOT CLEAN"
        self.database.unlink()
        return f"{number.name}: {'finished' if finished else 'continued'}"


class Embed:
    """Codes in the user's cache."""

    def __init__(self, world: World, folder: Path) -> None:
        self.cache = folder / "cache"
        ENVIRONMENT["TUMORQUERY_CACHE"] = str(self.cache)
        self.call = command("embed", world.database, "--strategy", "random-projection")
        self.seconds = seconds_of(self.call)
        self.whole = contents(self.cache)
        shutil.rmtree(self.cache)

    def trial(self, random_number: random.Random) -> str:
        number = random_number.choice(SIGNALS)
        ended_at(self.call, random_number.uniform(0.3, 1.0) * self.seconds, number)
        found = contents(self.cache) if self.cache.exists() else {}
        if any(self.whole.get(name, digest) != digest for name, digest in found.items()):
            return "DAMAGED CODES"
        subprocess.run(self.call, env=ENVIRONMENT, check=True, capture_output=True)
        if contents(self.cache) != self.whole:
            return "NEXT RUN NOT CLEAN"
        shutil.rmtree(self.cache)
        return f"{number.name}: {'finished' if found else 'nothing'}"


KINDS: dict[str, Callable[[World, Path], Infer | Cohort | Build | Embed]] = {
    "infer": partial(Infer, method=SHORT),
    "cohort": partial(Cohort, method=SHORT),
    "infer-whole": partial(Infer, method=WHOLE),
    "cohort-whole": partial(Cohort, method=WHOLE),
    "build": Build,
    "embed": Embed,
}


def main() -> int:
    kind, count = sys.argv[1], int(sys.argv[2])
    random_number = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    ends: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trials = KINDS[kind](World.build(folder / "world"), folder)
        print(f"{kind}: {trials.seconds:.1f} s where it is not ended", flush=True)
        for number in range(1, count + 1):
            began = time.monotonic()
            ends[end := trials.trial(random_number)] += 1
            print(f"{kind}: run {number} of {count} in {time.monotonic() - began:.0f} s: {end}", flush=True)
    for end, times in sorted(ends.items()):
        print(f"{kind}: {times:4d} {end}")
    return int(any(end.isupper() for end in ends))


if __name__ == "__main__":
    sys.exit(main())
