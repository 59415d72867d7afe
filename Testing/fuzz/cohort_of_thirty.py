"""A cohort of thirty patients, every fifth of them broken in another way; then the same, ended by Ctrl-C halfway.

    python Testing/fuzz/cohort_of_thirty.py

Exits with 1 where a row of summary.csv is missing, a sound patient failed or a broken one did not,
or the end took more than two seconds.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "unit")]

import numpy as np  # noqa: E402
from small_world import World, world_patient, write_patient  # noqa: E402

COLUMNS = ("t1gd", "flair", "segmentation", "labels")
#: A MetaImage header that ends ITK's own reader with a segmentation fault.
CRASHES_ITK = b"ObjectType = Image\nNDims = -1\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"


def broken(number: int, files: dict[str, str], folder: Path) -> dict[str, str]:
    """The files of a patient with one fault, the `number`th kind of six."""
    if number == 0:
        (folder / "text.nii.gz").write_text("no image")
        return files | {"t1gd": str(folder / "text.nii.gz")}
    if number == 1:
        (folder / "crash.mha").write_bytes(CRASHES_ITK)
        return files | {"t1gd": str(folder / "crash.mha")}
    if number == 2:
        return files | {"segmentation": str(folder / "missing.nii.gz")}
    if number == 3:
        return files | {"labels": "brats1999"}
    if number == 4:
        whole = Path(files["flair"]).read_bytes()
        (folder / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
        return files | {"flair": str(folder / "cut.nii.gz")}
    return files | {"labels": "core=7/whole=7,8"}


def rows_of(summary: Path) -> list[dict[str, str]]:
    with open(summary, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> int:
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = World.build(folder / "world")
        with open(folder / "cohort.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["patient", *COLUMNS])
            for number in range(30):
                place = tuple(random.uniform((-28, -10, 5), (28, 10, 25)))
                home = folder / f"P{number:02d}"
                files = write_patient(home, world_patient(tumour_centre=place, core_radius=8.0, whole_radius=15.0))
                if number % 5 == 4:
                    files = broken(number // 5, files, home)
                table.writerow([home.name, *(files[column] for column in COLUMNS)])
        out = folder / "out"
        options = ["--out", str(out), "--workers", "2", *world.options(refine="none")]
        call = [sys.executable, "-m", "TumorQueryLib", "cohort", str(folder / "cohort.csv"), *options]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        status = subprocess.run(call, env=environment, capture_output=True).returncode
        rows = rows_of(out / "summary.csv")
        done = [row["patient"] for row in rows if row["status"] == "done"]
        print(
            f"exit status {status}, {len(rows)} rows, {len(done)} done, {len(list(out.glob('*/result.json')))} results"
        )
        for row in rows:
            if row["status"] == "failed":
                print(f"  {row['patient']}: {row['error']}")
        whole = status == 2 and len(rows) == 30 and done == [f"P{n:02d}" for n in range(30) if n % 5 != 4]

        again = [*call[:-1], call[-1]]
        again[again.index(str(out))] = str(folder / "ended")
        child = subprocess.Popen(again, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        summary = folder / "ended" / "summary.csv"
        while not (summary.exists() and len(rows_of(summary)) >= 15):
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        began = time.monotonic()
        status = child.wait()
        seconds = time.monotonic() - began
        rows = rows_of(summary)
        listed = {row["patient"] for row in rows if row["status"] == "done"}
        results = {path.parent.name for path in (folder / "ended").glob("*/result.json")}
        left = [path.name for path in (folder / "ended").rglob(".*")]
        print(
            f"ended by Ctrl-C: status {status} after {seconds:.2f} s, {len(rows)} rows, {len(results)} results, "
            f"without a row: {sorted(results - listed)}, left behind: {left}"
        )
    return int(not (whole and status == 130 and seconds <= 2 and listed == results and not left))


if __name__ == "__main__":
    sys.exit(main())
