"""Many inferences in one process: memory, open files, threads and temporary files stay what they are.

    python Testing/fuzz/soak.py [COUNT]        COUNT: 100, of which every tenth is whole

A whole inference registers the sample case and refines its match; the others take it as it lies
and keep the match. All of them write their files. Exits with 1 where memory still grows after the
first twenty: more than 5 % between the means of the second and of the last fifth.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from TumorQueryLib import Method, Patient, infer  # noqa: E402
from TumorQueryLib.studies.sample import sample_files  # noqa: E402


def resident_mb() -> float:
    """Memory of this process that is in use, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    memory, files, threads = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        (folder / "tmp").mkdir()
        for number in range(count):
            whole = number % 10 == 9
            method = Method() if whole else Method(registration="none", refine="none")
            infer(Patient.load(**sample_files()), method).write(folder / "out")
            gc.collect()
            memory.append(resident_mb())
            files.append(len(os.listdir("/proc/self/fd")))
            threads.append(threading.active_count())
            print(
                f"{number + 1:4d} {'whole' if whole else 'plain'} {memory[-1]:8.1f} MB {files[-1]:3d} files", flush=True
            )
        left = list((folder / "tmp").iterdir()) + list((folder / "out").glob(".*"))
    fifth = max(1, count // 5)
    plain = [value for number, value in enumerate(memory) if number % 10 != 9]
    part = max(1, len(plain) // 5)
    second, last = statistics.mean(plain[part : 2 * part]), statistics.mean(plain[-part:])
    print(f"memory: {second:.0f} MB in the second fifth, {last:.0f} MB in the last; temporary files left: {len(left)}")
    print(f"open files: {files[fifth - 1]} and {files[-1]}; threads: {threads[fifth - 1]} and {threads[-1]}")
    return int(last > 1.05 * second or bool(left) or files[-1] > files[fifth - 1] or threads[-1] > threads[fifth - 1])


if __name__ == "__main__":
    sys.exit(main())
