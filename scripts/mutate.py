"""Mutation tests: small faults put into the library, each of which the tests of its own folder should notice.

    python scripts/mutate.py [--mutants N] [--jobs N] [--random-seed N] [--resume]

cosmic-ray makes and runs the mutants; this script draws N of them from all that it can make in FOLDERS, gives every
job a copy of the tracked files, and writes the score of each folder and the survivors to mutation/report.txt.
Left out are functions that numba compiles and annotations, which nothing evaluates. --resume goes on with an
interrupted run.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, WorkItem

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "mutation"
FOLDERS = ("geometry", "inputs", "estimates", "results")
CONFIG = """[cosmic-ray]
module-path = "TumorQueryLib/{folder}"
timeout = {timeout}
excluded-modules = []
test-command = "{python} -m {tests}"
distributor.name = "local"
"""
TESTS = "pytest Testing/unit/{folder} -x -q -p no:cacheprovider"


def tree(job: int) -> Path:
    """The copy of the tracked files that a job changes and tests."""
    return WORK / f"tree-{job}"


def session(job: int, folder: str) -> Path:
    """The mutants of a folder that a job runs, with their results."""
    return WORK / f"{folder}-{job}.sqlite"


def copy_tracked_files(target: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def run(command: list[str], folder: Path) -> None:
    """A command in a copy, which it imports the library from; real patients would make the score depend on them."""
    environment = {name: value for name, value in os.environ.items() if name != "TUMORQUERY_TEST_DATA"}
    environment |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def lines_left_out(path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where compiled functions and annotations begin and end, as (line, column)."""
    spans = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and any("njit" in ast.unparse(one) for one in node.decorator_list):
            spans.append(((node.decorator_list[0].lineno, 0), (node.end_lineno, node.end_col_offset)))
        for found in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if found is not None:
                spans.append(((found.lineno, found.col_offset), (found.end_lineno, found.end_col_offset)))
    return spans


def all_mutants(folder: str) -> list[MutationSpec]:
    """Every mutant that cosmic-ray makes of a folder and that counts, in an order that repeats."""
    database = WORK / f"{folder}-all.sqlite"
    config = WORK / f"{folder}-all.toml"
    config.write_text(CONFIG.format(folder=folder, timeout=1, python="python", tests="pytest"), encoding="utf-8")
    run([sys.executable, "-m", "cosmic_ray.cli", "init", str(config), str(database)], tree(0))
    with use_db(str(database), WorkDB.Mode.open) as mutants:
        specs = [item.mutations[0] for item in mutants.work_items]
    left_out = {path: lines_left_out(tree(0) / path) for path in {spec.module_path for spec in specs}}
    counted = [
        spec
        for spec in specs
        if not any(start <= tuple(spec.start_pos) < end for start, end in left_out[spec.module_path])
    ]
    return sorted(counted, key=lambda spec: (str(spec.module_path), spec.operator_name, spec.occurrence))


def prepare(count: int, jobs: int, random_seed: int) -> None:
    """Copies, the time that the tests take without a fault, and the drawn mutants of each job."""
    shutil.rmtree(WORK, ignore_errors=True)
    for job in range(jobs):
        copy_tracked_files(tree(job))
    mutants = [(folder, spec) for folder in FOLDERS for spec in all_mutants(folder)]
    drawn = random.Random(random_seed).sample(mutants, min(count, len(mutants)))
    print(f"{len(drawn)} of {len(mutants)} mutants drawn with random seed {random_seed}.", flush=True)
    for folder in FOLDERS:
        tests = TESTS.format(folder=folder)
        started = time.perf_counter()
        run([sys.executable, "-m", *tests.split()], tree(0))
        timeout = 60 + 4 * (time.perf_counter() - started)
        config = CONFIG.format(folder=folder, timeout=round(timeout), python=sys.executable, tests=tests)
        (WORK / f"{folder}.toml").write_text(config, encoding="utf-8")
        own = [spec for of, spec in drawn if of == folder]
        for job in range(jobs):
            with use_db(str(session(job, folder)), WorkDB.Mode.create) as items:
                items.add_work_items(
                    WorkItem.single(f"{folder}-{number}", spec)
                    for number, spec in enumerate(own)
                    if number % jobs == job
                )


def run_job(job: int) -> None:
    for folder in FOLDERS:
        config = WORK / f"{folder}.toml"
        run([sys.executable, "-m", "cosmic_ray.cli", "exec", str(config), str(session(job, folder))], tree(job))
        print(f"Job {job} is through with {folder}.", flush=True)


def report(jobs: int) -> str:
    """Score of each folder, then every survivor with what was changed."""
    scores, survivors = [], []
    killed_in_all = all_run = 0
    for folder in FOLDERS:
        killed = total = 0
        for job in range(jobs):
            with use_db(str(session(job, folder)), WorkDB.Mode.open) as items:
                specs = {item.job_id: item.mutations[0] for item in items.work_items}
                for name, result in items.results:
                    total += 1
                    killed += result.is_killed
                    if not result.is_killed:
                        spec = specs[name]
                        changed = [
                            line
                            for line in (result.diff or "").splitlines()
                            if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))
                        ]
                        survivors.append(
                            f"{spec.module_path}:{spec.start_pos[0]} {spec.operator_name}\n" + "\n".join(changed)
                        )
        scores.append(f"{folder}: {killed} of {total} killed" + (f" ({killed / total:.0%})" if total else ""))
        killed_in_all, all_run = killed_in_all + killed, all_run + total
    share = f" ({killed_in_all / all_run:.0%})" if all_run else ""
    return "\n".join([*scores, f"all: {killed_in_all} of {all_run} killed{share}", "", *survivors, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=300, metavar="N")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    parser.add_argument("--random-seed", type=int, default=1, metavar="N")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    if not arguments.resume:
        prepare(arguments.mutants, arguments.jobs, arguments.random_seed)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(run_job, range(arguments.jobs)))
    text = report(arguments.jobs)
    (WORK / "report.txt").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
