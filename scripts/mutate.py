"""Mutation tests: small faults put into the library, each of which the tests of its own folder should notice.

    python scripts/mutate.py [--mutants N] [--jobs N] [--random-seed N] [--resume]

cosmic-ray makes and runs the mutants; this script draws N of them from all that it can make in FOLDERS, records with
coverage which tests of a folder reach which lines, runs for each mutant those that reach its line, the shortest first,
in a copy of the tracked files, and writes the score of each folder and the survivors to mutation/report.txt. A mutant
of what runs when its module is imported meets the tests that reach the module. Where something is computed once for
several tests but by no fixture, the first of them alone is known to reach it: a mutant may survive, never die, by that.
Left out are functions that numba compiles and annotations, which nothing evaluates. --resume goes on with an
interrupted run.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import coverage
import pytest
from cosmic_ray.commands import init
from cosmic_ray.modules import find_modules
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, WorkItem, WorkResult

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "mutation"
ORIGINAL = WORK / "original"
COPIES = WORK / "copies"
MUTANTS = WORK / "mutants.sqlite"
FOLDERS = ("geometry", "inputs", "estimates", "results")
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider")


def copy_tracked_files(target: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def work_in(folder: Path) -> None:
    """Import the library from a copy; real patients would make the score depend on them."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ.pop("TUMORQUERY_TEST_DATA", None)
    os.environ.update(PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE="1", COVERAGE_CORE="ctrace")


def work_in_a_copy() -> None:
    """A copy of its own for each process: an interrupted run leaves the fault in it."""
    work_in(shutil.copytree(ORIGINAL, COPIES / str(os.getpid())))


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


class Recorder:
    """A plugin of pytest: the lines that each test and each fixture runs, and their seconds."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.seconds: Counter[str] = Counter()
        self.fixtures: dict[str, list[str]] = {}
        self.context, self.since = "", time.perf_counter()

    def switch(self, context: str) -> None:
        now = time.perf_counter()
        self.seconds[self.context] += now - self.since
        self.context, self.since = context, now
        self.measured.switch_context(context)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item):
        self.fixtures[item.nodeid] = item.fixturenames
        self.switch(item.nodeid)
        try:
            return (yield)
        finally:
            self.switch("")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef):
        test = self.context
        self.switch(fixturedef.argname)
        try:
            return (yield)
        finally:
            self.switch(test)


def measurement(folder: str) -> coverage.Coverage:
    measured = coverage.Coverage(data_file=str(WORK / f"{folder}.coverage"), config_file="pyproject.toml")
    measured.set_option("run:relative_files", True)
    return measured


def record(folder: str) -> None:
    """Run a folder's tests without a fault; children of the tests are measured too, without a context."""
    measured = measurement(folder)
    measured.start()
    recorder = Recorder(measured)
    if pytest.main([f"Testing/unit/{folder}", *OPTIONS], plugins=[recorder]) != 0:
        raise RuntimeError(f"The tests of {folder} fail without a fault.")
    measured.stop()
    measured.save()
    combined = measurement(folder)
    combined.combine()
    combined.save()
    (WORK / f"{folder}.json").write_text(json.dumps([recorder.seconds, recorder.fixtures]), encoding="utf-8")


@functools.cache
def recorded(folder: str) -> tuple[coverage.CoverageData, dict[str, float], dict[str, list[str]]]:
    lines = coverage.CoverageData(str(WORK / f"{folder}.coverage"))
    lines.read()
    return lines, *json.loads((WORK / f"{folder}.json").read_text(encoding="utf-8"))


def statement(path: Path, line: int) -> tuple[range, bool]:
    """The lines of the statement, or of its head, that a line belongs to, and whether an import runs it."""
    lines, on_import = range(line, line + 1), True
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):  # the outer ones first
        if isinstance(node, (ast.stmt, ast.ExceptHandler)) and node.lineno <= line <= node.end_lineno:
            body = getattr(node, "body", None)
            last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno
            if line <= last:
                lines = range(node.lineno, last + 1)
            elif isinstance(node, ast.FunctionDef):
                on_import = False
    return lines, on_import


def tests_that_reach(spec: MutationSpec) -> tuple[list[str], float]:
    """The tests of a mutant's folder that reach it, the shortest first, and the seconds that they take."""
    measured, seconds, fixtures = recorded(spec.module_path.parts[1])
    contexts = measured.contexts_by_lineno(str(spec.module_path))
    lines, on_import = statement(ORIGINAL / spec.module_path, spec.start_pos[0])
    reached = {context for line in lines for context in contexts.get(line, ())}
    if on_import or "" in reached:
        reached = set().union(*contexts.values())
        if reached <= {""}:
            reached = set(fixtures)
    tests = [test for test, used in fixtures.items() if not reached.isdisjoint((test, *used))]
    needed = {fixture for test in tests for fixture in fixtures[test]}
    alone = {test: sum(seconds.get(one, 0) for one in (test, *fixtures[test])) for test in tests}
    return sorted(tests, key=alone.__getitem__), sum(seconds.get(one, 0) for one in (*tests, *needed))


def run(spec: MutationSpec) -> WorkResult:
    tests, seconds = tests_that_reach(spec)
    command = [sys.executable, "-m", "pytest", *OPTIONS, *tests] if tests else ["echo", "reached by no test"]
    return mutate_and_test([spec], shlex.join(command), timeout=30 + 3 * seconds)


def prepare(count: int, random_seed: int) -> None:
    """The original, the drawn mutants, and what the tests of each folder reach."""
    shutil.rmtree(WORK, ignore_errors=True)
    copy_tracked_files(ORIGINAL)
    os.chdir(ORIGINAL)
    with use_db(str(MUTANTS), WorkDB.Mode.create) as items:
        modules = sorted(find_modules([Path("TumorQueryLib", folder) for folder in FOLDERS]))
        init(modules, items, {})
        left_out = {module: lines_left_out(module) for module in modules}
        mutants = [
            spec
            for spec in (item.mutations[0] for item in items.work_items)
            if not any(start <= tuple(spec.start_pos) < end for start, end in left_out[spec.module_path])
        ]
        mutants.sort(key=lambda spec: (spec.module_path, spec.operator_name, spec.occurrence))
        drawn = random.Random(random_seed).sample(mutants, min(count, len(mutants)))
        print(f"{len(drawn)} of {len(mutants)} mutants drawn with random seed {random_seed}.", flush=True)
        items.clear()
        items.add_work_items(WorkItem.single(str(number), spec) for number, spec in enumerate(drawn))
    for folder in FOLDERS:
        with ProcessPoolExecutor(1, initializer=work_in, initargs=(ORIGINAL,)) as process:
            process.submit(record, folder).result()


def place(spec: MutationSpec) -> str:
    return f"{spec.module_path}:{spec.start_pos[0]} {spec.operator_name}"


def report() -> str:
    """Score of each folder, then every survivor with what was changed."""
    killed, ran, survivors = Counter(), Counter(), []
    with use_db(str(MUTANTS), WorkDB.Mode.open) as items:
        specs = {item.job_id: item.mutations[0] for item in items.work_items}
        for name, result in items.results:
            spec = specs[name]
            for counted in (spec.module_path.parts[1], "all"):
                ran[counted] += 1
                killed[counted] += result.is_killed
            if not result.is_killed:
                lines = result.diff.splitlines()
                changed = [line for line in lines if line.startswith(("+", "-")) and line[:3] not in ("+++", "---")]
                ended = result.output.strip().splitlines()[-1]
                survivors.append("\n".join([f"{place(spec)} ({ended})", *changed]))
    scores = [f"{one}: {killed[one]} of {ran[one]} killed ({killed[one] / ran[one]:.0%})" for one in sorted(ran)]
    return "\n".join([*scores, "", *survivors, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=300, metavar="N")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    parser.add_argument("--random-seed", type=int, default=1, metavar="N")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    if not arguments.resume:
        prepare(arguments.mutants, arguments.random_seed)
    shutil.rmtree(COPIES, ignore_errors=True)
    COPIES.mkdir()
    with (
        use_db(str(MUTANTS), WorkDB.Mode.open) as items,
        ProcessPoolExecutor(arguments.jobs, initializer=work_in_a_copy) as pool,
    ):
        pending = items.pending_work_items
        for item, result in zip(pending, pool.map(run, [item.mutations[0] for item in pending])):
            items.set_result(item.job_id, result)
            print(f"{place(item.mutations[0])}: {'killed' if result.is_killed else 'survived'}", flush=True)
    text = report()
    (WORK / "report.txt").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
