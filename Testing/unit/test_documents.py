"""What the documents tell a reader to type works: their commands and Python blocks are run as they stand.

Files that the documents name (patient, cohort, database) lie in the folder that a command runs in; they and the bundled
data are of the small world of `small_world.py`, under the names of the real ones; `demo` and the tutorials have the
real ones, and every second voxel of the sample. What is too long even so is replaced by the smaller size in SMALLER;
what cannot run here is named in NOT_RUN, with where it is tested.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_studies import MadeUpStudy, write_studies
from small_world import world_patient
from thinned_sample import write_thinned_sample

from TumorQueryLib.cli import main
from TumorQueryLib.geometry.grid import Volume, image_from_volume

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: A table of what other documents' figures were made by, for hours.
DOCUMENTS.remove(ROOT / "docs" / "verification.md")

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))

PATIENT = (
    "--t1gd t1gd.nii.gz --flair flair.nii.gz --segmentation seg.nii.gz --labels brats2023 --no-align "
    "--registration none --refine none --out result"
)
#: (document's words, words that are run, why) of commands and Python blocks.
SMALLER = [
    ("--entries 50000", "--entries 16", "7 minutes"),
    ("--entries 5000 ", "--entries 16 ", "a minute"),
    ('"$1" --entries "$2"', "tumors.h5 --entries 16", "the arguments of a job's script"),
    ("--workers 8", "--workers 2", "a test takes no more cores than that"),
    ("tumorquery infer ...", f"tumorquery infer {PATIENT}", "the dots stand for the patient"),
    ("tumorquery build ...", "tumorquery build tumors.h5 --entries 16", "the dots stand for a file and its size"),
    ("Method(refine_solves=60)", 'Method(align=False, registration="affine", refine_solves=10)', "half a minute"),
    (
        'registration="affine", refine_solves=60',
        'align=False, registration="affine", refine_solves=10',
        "half a minute",
    ),
    ('registration="affine", refine="none"', 'align=False, registration="none", refine="none"', "seconds"),
    ("--refine atlas", "--refine atlas --refine-solves 6", "seconds instead of minutes"),
    ("--t1 t1.nii.gz", "--t1 t1.nii.gz --registration none --refine-solves 6", "seconds"),
    ('refine="patient")', 'refine="patient", align=False, registration="none", refine_solves=6)', "seconds"),
    ("--synthetic 1000", "--synthetic 4 --strategies direct,ds32 --registration none", "an hour"),
    ("cohort patients.csv", "cohort patients.csv --no-align --registration none --refine-solves 6", "a minute"),
    ("infer --study export/", "infer --study export/ --no-align --registration none --refine none", "seconds"),
    ("cohort FILE.csv", "cohort FILE.csv --no-align --registration none --refine none", "a minute"),
    ("starter 200 RESULT.json", "starter 1 RESULT.json", "an hour"),
    ("RESULT_DIR", "out", "RESULT_DIR"),
    ("results/PATIENT", "out", "a patient's folder"),
    ("--volume 180", "--volume 5", "the small world's tumours are small"),
    ("train DB.h5 --strategy NAME", "train DB.h5 --strategy bihash", "NAME"),
    ("python -m TumorQueryLib demo", "tumorquery demo --head", "the same command, run once"),
    ("tcp://first-host:8786", "ADDRESS", "the test's own scheduler"),
    ('"$address"', "ADDRESS", "the test's own scheduler"),
]
#: Command or document of a Python block, and why it is not run.
NOT_RUN = {
    "Slicer ": "needs Slicer; Testing/slicer and the job `slicer` of the continuous integration run the batch script",
    "python -m TumorQueryLib": "the command's other name; `demo` by it is run",
    "python -m venv": "an environment for a person; the tests run in theirs",
    "docs/slicer-module.md": "needs Slicer; Testing/slicer/test_sample_run.py makes the same call",
    "python scripts/make_evaluation_page.py": "writes into docs/ what hours of `tumorquery evaluate` have measured",
    "python scripts/make_query_page.py": "writes into docs/ what minutes of `tumorquery bench query` have measured",
    "tumorquery cohort results/cohort.csv": "Testing/unit/test_study_command.py runs what it found in folders",
    "tumorquery train": "trains for minutes on any database; Testing/unit/strategies/test_learned.py trains",
    "tumorquery evaluate starter --cross-anatomy": "minutes; Testing/unit/studies/test_cross_anatomy.py runs its parts",
    "tumorquery evaluate starter --plans": "minutes; Testing/unit/studies/test_plans_study.py runs its parts",
    "tumorquery evaluate starter --starts": "minutes; Testing/unit/studies/test_starts.py runs its parts",
    "tumorquery evaluate --recurrence": "needs follow-ups; studies/test_recurrence_coverage.py has made-up ones",
    "tumorquery predict-gbm": "half a minute a patient; studies/test_predict_gbm.py runs small ones",
    "tumorquery evaluate starter --sensitivity": "minutes; test_sensitivity_study.py runs its parts",
    "tumorquery bench query": "minutes on any database; Testing/unit/studies/test_benchmark_query.py runs its parts",
    "tumorquery export result": "needs a result and its series; Testing/unit/results/dicom/test_export.py runs it",
    "dask ": "a cluster of several machines; the commands that use one are run on the test's own",
    "sbatch ": "needs SLURM; the lines of the script that it starts are run",
}
#: First words of lines in code blocks that no test has to run.
NOT_COMMANDS = {"make", "git", "openssl", "pip", ".venv/bin/python", "source", "until", "kill"}


class Command(NamedTuple):
    """A line to type, and where it stands."""

    document: str
    line: int
    text: str


def blocks(path: Path):
    """(line, language, lines) of the fenced and the indented code blocks of a document."""
    language, body, first = None, [], 0
    for number, line in enumerate([*path.read_text(encoding="utf-8").splitlines(), ""], 1):
        if line.startswith("```"):
            if language is None:
                language, body, first = line[3:].strip() or "shell", [], number + 1
            else:
                yield first, language, body
                language, body = None, []
        elif language is not None:
            body.append(line)
        elif line.startswith("    "):
            yield number, "shell", [line[4:]]


def joined(path: Path):
    """(line, text) of the lines of the shell blocks; one that ends in a backslash goes on in the next."""
    pending = ""
    for first, language, body in blocks(path):
        for number, line in enumerate(body, first):
            if language == "shell":
                pending = f"{pending} {line.strip()}".strip()
                if pending.endswith("\\"):
                    pending = pending[:-1].strip()
                elif pending:
                    yield number, pending
                    pending = ""


def commands(path: Path) -> list[Command]:
    """The commands of a document: lines of its code blocks, and what stands in backquotes."""
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", lambda match: "\n" * match[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE)
    inline = [
        Command(name, prose[: match.start()].count("\n") + 1, " ".join(match[1].split()))
        for match in re.finditer(r"`((?:tumorquery|python|Slicer|dask|sbatch) [^`]*)`", prose)
    ]
    return [*(Command(name, number, line) for number, line in joined(path)), *inline]


COMMANDS = [
    command
    for path in DOCUMENTS
    for command in commands(path)
    if command.text.split()[0] in ("tumorquery", "python", "Slicer", "dask", "sbatch")
]


def smaller(text: str) -> str:
    """What is run of a command or a block."""
    for documented, replacement, _ in SMALLER:
        if documented in text:
            text = text.replace(documented, replacement)
    return text


def words_of(text: str) -> list[str]:
    """The words that are run of a command, without the comment behind it."""
    return shlex.split(smaller(text), comments=True)


#: What is run, each once, with the first place that asks for it.
TO_RUN = [
    pytest.param(text, id=f"{command.document}:{command.line}")
    for text, command in {shlex.join(words_of(command.text)): command for command in reversed(COMMANDS)}.items()
][::-1]
PYTHON = [
    pytest.param(smaller("\n".join(body)), path.relative_to(ROOT).as_posix(), id=f"{path.name}:{first}")
    for path in DOCUMENTS
    for first, language, body in blocks(path)
    if language == "python"
]


def skip_what_cannot_run(words: str) -> None:
    for beginning, reason in NOT_RUN.items():
        if words.startswith(beginning):
            pytest.skip(f"not run: {reason}")


@pytest.fixture(scope="module")
def thinned_sample(tmp_path_factory):
    """The bundled data, of the sample case's images every second voxel."""
    return write_thinned_sample(tmp_path_factory.mktemp("thinned") / "resources")


@pytest.fixture(scope="module")
def named_files(tmp_path_factory, small_resources):
    """The files that the documents name, under their names there."""
    folder = tmp_path_factory.mktemp("documents")
    patient = world_patient()
    labels = np.where(patient.core.array, 3, np.where(patient.whole.array, 2, 0)).astype(np.uint8)
    images = {"t1gd": patient.t1gd, "t1": patient.t1gd, "flair": patient.flair}
    for name, volume in (images | {"seg": Volume(labels, patient.whole.grid)}).items():
        sitk.WriteImage(image_from_volume(volume), str(folder / f"{name}.nii.gz"))
    row = "patient,t1gd,flair,segmentation,labels\none,t1gd.nii.gz,flair.nii.gz,seg.nii.gz,brats2023\n"
    for name in ("cohort.csv", "patients.csv", "FILE.csv"):
        (folder / name).write_text(row, encoding="utf-8")
    study = MadeUpStudy()
    for name, times, role in (("AX T1 POST GAD", "t1 spin echo", "t1gd"), ("AX FLAIR", "flair", "flair")):
        volume = images[role]
        study.add(name, times, array=np.rint(volume.array).astype(np.uint16), affine=volume.grid.affine)
    write_studies(folder / "export", study, layout="numbers")
    for role, name in {"t1c": "t1gd", "t2f": "flair", "seg": "seg"}.items():
        patient_folder = folder / "patients" / "BraTS-GLI-00001-000"
        patient_folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / f"{name}.nii.gz", patient_folder / f"{patient_folder.name}-{role}.nii.gz")
    shutil.copytree(small_resources / "Atlas" / "SRI24", folder / "my-atlas")
    for name in ("DB.h5", "large.h5", "mine.h5", "starter.h5"):
        shutil.copyfile(small_resources / "Databases" / "starter.h5", folder / name)
    inferred = shlex.split(PATIENT.replace("--out result", "--out out"))
    called(["infer", *inferred], folder, small_resources)
    return folder


@pytest.fixture
def folder(named_files, tmp_path):
    """A folder of its own for a command, with the named files."""
    shutil.copytree(named_files, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def scheduler():
    """The address of a Dask cluster with one worker."""
    distributed = pytest.importorskip("distributed", reason="the extra 'distributed' is not installed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def run(words: list[str], folder: Path, resources: Path) -> None:
    """Run a command in a folder, with the given bundled data."""
    environment = {"PYTHONPATH": ROOT, "TUMORQUERY_CACHE": folder / "cache", "TUMORQUERY_RESOURCES": resources}
    environment = os.environ | {name: str(path) for name, path in environment.items()}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def called(words: list[str], folder: Path, resources: Path) -> None:
    """Call `tumorquery` in this process; starting another one takes longer than most of the commands."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        patch.chdir(folder)
        patch.setenv("TUMORQUERY_CACHE", str(folder / "cache"))
        patch.setenv("TUMORQUERY_RESOURCES", str(resources))
        assert main(words) == 0, f"{shlex.join(words)}\n{said.getvalue()[-2000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("text", TO_RUN)
def test_commands_of_the_documents_run(text, folder, small_resources, request):
    skip_what_cannot_run(text)
    if "ADDRESS" in text:
        text = text.replace("ADDRESS", request.getfixturevalue("scheduler"))
    words, resources = shlex.split(text), small_resources
    if words[0] == "python":
        return run([sys.executable, str(ROOT / words[1]), *words[2:]], folder, resources)
    if len(words) == 2 and words[1] != "demo":  # `tumorquery infer` names the command without calling it
        words.append("--help")
    elif words[1] == "build":
        (folder / words[2]).unlink(missing_ok=True)
    if words[1] == "demo":
        resources = request.getfixturevalue("thinned_sample")
    return called(words[1:], folder, resources)


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_run(path, tmp_path, thinned_sample, monkeypatch):
    """As they stand, on every second voxel of the sample; what they find of it they assert themselves."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    run([sys.executable, "-c", smaller(path.read_text(encoding="utf-8"))], tmp_path, thinned_sample)


@pytest.mark.slow
@pytest.mark.parametrize(("code", "document"), PYTHON)
def test_python_blocks_of_the_documents_run(code, document, folder, small_resources, request):
    skip_what_cannot_run(document)
    resources = request.getfixturevalue("thinned_sample") if "sample_files" in code else small_resources
    run([sys.executable, "-c", code], folder, resources)


def test_every_line_to_type_is_known():
    """A new kind of command is either run or named above."""
    known = {*NOT_COMMANDS, *(command.text.split()[0] for command in COMMANDS)}
    lines = [(path.name, number, line) for path in DOCUMENTS for number, line in joined(path)]
    commands_typed = [line for line in lines if not re.match(r"#|\w+=", line[2])]
    assert not [line for line in commands_typed if line[2].split()[0] not in known]


def test_what_the_tables_name_is_in_the_documents():
    """Replacements and exceptions that nothing needs any more are gone."""
    texts = [command.text for command in COMMANDS]
    blocks_too = [*texts, *("\n".join(body) for path in DOCUMENTS for _, _, body in blocks(path))]
    blocks_too += [path.read_text(encoding="utf-8") for path in TUTORIALS]
    assert not [words for words, _, _ in SMALLER if not any(words in text for text in blocks_too)]
    named = [*texts, *(block.values[1] for block in PYTHON)]
    assert not [words for words in NOT_RUN if not any(text.startswith(words) for text in named)]
