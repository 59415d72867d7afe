"""The command `tumorquery`.

Exit status: 0 done; 1 a defect of this software (traceback, and where the log is);
2 the input or the call is wrong, in one or two lines; 130 cancelled.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from TumorQueryLib.base.console import complain, open_streams, private_traceback, say, silence_output
from TumorQueryLib.base.errors import Cancelled, InputError, OutputError, TumorQueryError
from TumorQueryLib.base.method import DENSITIES, FOCI, REFINEMENTS, REGISTRATIONS, TISSUES, Method
from TumorQueryLib.base.plan_choices import BARRIERS, GUIDELINES, PlanChoices
from TumorQueryLib.base.progress import Progress, part
from TumorQueryLib.base.version import __version__
from TumorQueryLib.results.folder import EXPORT_FOLDER
from TumorQueryLib.strategies.base import ARCHITECTURES, learned_strategies, strategy_table

if TYPE_CHECKING:
    from TumorQueryLib.inputs.dicom.study import Study
    from TumorQueryLib.results.result import Result

NOTHING_WRITTEN = "no result was written"
DONE, DEFECT, WRONG_INPUT, CANCELLED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a call in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message with the command's name and exit with status 2."""
        self.exit(WRONG_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    open_streams()
    parser = make_parser()
    try:
        options = parser.parse_args(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    try:
        with terminated_as_cancelled():
            options.run(options)
        return DONE
    except (KeyboardInterrupt, Cancelled) as ended:
        # What was interrupted at its very end says itself that its result stands.
        said = str(ended) if isinstance(ended, KeyboardInterrupt) and str(ended) else None
        complain(f"cancelled; {said or getattr(options, 'when_cancelled', NOTHING_WRITTEN)}")
        return CANCELLED
    except TumorQueryError as error:
        complain(str(error))
        return WRONG_INPUT
    except BrokenPipeError:
        # The reader of a pipe went away, as `head` does; that is no defect.
        silence_output()
        return DONE
    except Exception as error:
        with suppress(OSError):
            traceback.print_exc()
        complain(
            f"this is a defect of TumorQuery; {write_log(error, sys.argv[1:] if arguments is None else arguments)}"
        )
        return DEFECT


@contextmanager
def terminated_as_cancelled() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP of a terminal that is closed, unwind the stack like Ctrl-C: unfinished files go."""

    def cancel(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = {}
    try:
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # Ignored where the run is to go on without its terminal (nohup).
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, cancel)
    except ValueError:  # not in the main thread: the caller's affair
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write_log(error: Exception, arguments: Sequence[str]) -> str:
    """Keep what a defect's report needs in the user's cache, for this user alone; says where."""
    from TumorQueryLib.base.resources import cache_folder

    text = private_traceback(error, [str(argument) for argument in arguments])
    try:
        path = cache_folder() / "last-error.log"
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"TumorQuery {__version__}, Python {sys.version}\n{text}")
    except (OSError, OutputError):
        return "please report the lines above."
    return f"please report it with {path}."


def make_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="tumorquery",
        description="Tumour cell density beyond what MRI shows. Research software, not a medical device.",
    )
    parser.add_argument("--version", action="version", version=f"tumorquery {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    add_patient_commands(commands)
    add_database_commands(commands)
    add_measuring_commands(commands)
    doctor = commands.add_parser("doctor", help="examine this installation: what to paste into the report of a defect")
    doctor.set_defaults(run=run_doctor)
    return parser


def add_patient_commands(commands: Any) -> None:
    """What is done with a patient, with many, and with their results."""
    demo = commands.add_parser("demo", help="run the inference on the bundled sample case")
    demo.add_argument(
        "--out", type=given_path, default=Path("demo"), metavar="DIR", help="folder of the results (demo)"
    )
    demo.add_argument("--head", action="store_true", help="with a head painted around the sample: images with skull")
    demo.set_defaults(run=run_demo)

    infer = commands.add_parser("infer", help="infer the cell density of a patient")
    add_patient_options(infer)
    infer.add_argument("--out", type=given_path, required=True, metavar="DIR", help="folder of the results")
    add_method_options(infer)
    infer.add_argument(
        "--dicom",
        action="store_true",
        help=f"write DIR/{EXPORT_FOLDER} too: SEG, Parametric Maps and RTSTRUCT; the T1Gd has to be a DICOM series",
    )
    infer.set_defaults(run=run_infer)

    plan = commands.add_parser("plan", help="make the plans of a result: a guideline's margin, and the density's")
    plan.add_argument("result", type=given_path, metavar="RESULT_DIR", help="folder of a result")
    plan.add_argument(
        "--cavity", type=given_path, metavar="F", help="mask of the resection cavity; counted with the core"
    )
    add_plan_options(plan)
    usual = PlanChoices()
    plan.add_argument(
        "--smallest-part",
        type=number_from_0,
        default=usual.smallest_part_ml,
        metavar="ML",
        help=f"parts of the model's plan below this are left out ({usual.smallest_part_ml:g})",
    )
    plan.add_argument(
        "--share",
        type=share,
        default=usual.share,
        metavar="S",
        help=f"of a result with uncertainty: the plan that holds this share of the cells ({usual.share:g})",
    )
    plan.add_argument(
        "--probability",
        type=share,
        default=usual.probability,
        metavar="P",
        help=f"with this probability ({usual.probability:g})",
    )
    plan.set_defaults(run=run_plan_command)

    export = commands.add_parser("export", help="write a result as DICOM objects: SEG, Parametric Maps, RTSTRUCT")
    export.add_argument("result", type=given_path, metavar="RESULT_DIR", help="folder of a result")
    export.add_argument(
        "--dicom",
        type=given_path,
        required=True,
        metavar="SERIES",
        help="folder of the T1Gd series that it was made from",
    )
    export.add_argument(
        "--t1gd", type=given_path, metavar="F", help="image file of that series, where the result was made from one"
    )
    export.add_argument("--out", type=given_path, required=True, metavar="DIR", help="folder of the objects")
    export.set_defaults(run=run_export)

    study = commands.add_parser("study", help="show what a DICOM folder holds, and what would be taken for what")
    study.add_argument("study", type=given_path, metavar="DIR", help="an archive's export, whatever its layout")
    study.add_argument("--json", type=given_path, metavar="FILE", help="write it there too")
    study.set_defaults(run=run_study)

    cohort = commands.add_parser("cohort", help="infer many patients; one failure never stops the rest")
    cohort.add_argument(
        "cohort",
        type=given_path,
        metavar="FILE.csv|FOLDER",
        help="a row for each patient; or a BIDS dataset, BraTS' folders, or a folder of DICOM studies to find them in",
    )
    cohort.add_argument(
        "--out", type=given_path, required=True, metavar="DIR", help="gets a folder a patient and summary.csv"
    )
    cohort.add_argument(
        "--list", action="store_true", help="of a folder: only write DIR/cohort.csv, the patients that were found"
    )
    where = cohort.add_mutually_exclusive_group()
    where.add_argument("--workers", type=whole_number, default=1, metavar="N", help="patients at a time (1)")
    where.add_argument("--dask", metavar="ADDRESS", help="run on the workers of this Dask scheduler instead")
    add_method_options(cohort)
    cohort.set_defaults(
        run=run_cohort_command, when_cancelled="summary.csv has a row for each patient that was done by then"
    )


def add_database_commands(commands: Any) -> None:
    """Databases, and what the strategies learn and keep of them."""
    build = commands.add_parser("build", help="build a database of simulated tumours")
    build.add_argument("database", type=given_path, metavar="DB.h5", help="file to make")
    build.add_argument("--entries", type=whole_number, required=True, metavar="N", help="number of tumours")
    build.add_argument(
        "--sampling",
        choices=("trajectory", "independent"),
        default="trajectory",
        help="several moments of each solve, or the paper's six parameters for each entry (trajectory)",
    )
    build.add_argument("--random-seed", type=int, default=0, metavar="S", help="of the random numbers (0)")
    build.add_argument("--atlas", default="SRI24", metavar="NAME|DIR", help="bundled atlas or an atlas folder (SRI24)")
    where = build.add_mutually_exclusive_group()
    where.add_argument("--workers", type=whole_number, metavar="N", help="threads; by default one a core")
    where.add_argument("--dask", metavar="ADDRESS", help="grow on the workers of this Dask scheduler instead")
    build.add_argument("--resume", action="store_true", help="go on with an interrupted build")
    build.set_defaults(run=run_build, when_cancelled="the same call with --resume goes on with it")

    info = commands.add_parser("info", help="describe a database")
    info.add_argument("database", metavar="DB.h5", help="a file, or the name of a bundled database")
    info.add_argument("--verify", action="store_true", help="read and check everything in it")
    info.set_defaults(run=run_info)

    train = commands.add_parser("train", help="train the networks of a learned strategy on a database")
    train.add_argument("database", metavar="DB.h5", help="a file, or the name of a bundled database")
    train.add_argument("--strategy", choices=learned_strategies(), required=True)
    train.add_argument(
        "--architecture",
        choices=ARCHITECTURES,
        default=ARCHITECTURES[0],
        help=f"masks averaged over 4^3 voxels, or the paper's network on every voxel ({ARCHITECTURES[0]})",
    )
    train.add_argument("--random-seed", type=int, default=0, metavar="S", help="of the random numbers (0)")
    train.set_defaults(run=run_train, when_cancelled="the same call goes on with it")

    embed = commands.add_parser("embed", help="encode a database for an approximate strategy, into the user's cache")
    embed.add_argument("database", metavar="DB.h5", help="a file, or the name of a bundled database")
    with_codes = [name for name, info in strategy_table().items() if info.ranks_by_codes]
    embed.add_argument("--strategy", choices=with_codes, required=True)
    embed.set_defaults(run=run_embed)


def add_measuring_commands(commands: Any) -> None:
    """The paper's tables, studies of known truth, the containers of another benchmark, and speed."""
    evaluate = commands.add_parser("evaluate", help="compare strategies with the exact query: the paper's tables")
    evaluate.add_argument(
        "database", nargs="?", metavar="DB.h5", help="a file, or the name of a bundled database; not for --recurrence"
    )
    evaluate.add_argument("--strategies", type=names, metavar="A,B,...", help="by default every one")
    evaluate.add_argument("--synthetic", type=whole_number, metavar="N", help="synthetic queries (1000)")
    evaluate.add_argument("--cohort", type=given_path, metavar="FILE.csv", help="real patients to query as well")
    evaluate.add_argument("--registration", choices=REGISTRATIONS, help="of the cohort (deformable)")
    evaluate.add_argument(
        "--cross-anatomy",
        type=whole_number,
        metavar="N",
        help="instead: N tumours of known truth grown in MNI152, and what each step of the pipeline costs",
    )
    evaluate.add_argument(
        "--calibration",
        type=whole_number,
        metavar="N",
        help="instead: whether the bands of N such tumours, the same ones, hold what they promise",
    )
    evaluate.add_argument(
        "--plans",
        type=whole_number,
        metavar="N",
        help="instead: the true cells outside the plans of N such tumours, the same ones, and of the sample case",
    )
    evaluate.add_argument(
        "--starts",
        action="store_true",
        help="instead: whether the refined density depends on the database; on such tumours (8) and those of --cohort",
    )
    evaluate.add_argument(
        "--recurrence",
        type=given_path,
        metavar="FILE.csv",
        help="instead: coverage of recurrences by plans of given densities, as PREDICT-GBM counts it",
    )
    evaluate.add_argument(
        "--sensitivity",
        action="store_true",
        help="instead: figures under other assumptions about the tissue; of such tumours (8) and those of --cohort",
    )
    evaluate.add_argument("--mass-effect", action="store_true", help="of the tumours of known truth")
    evaluate.add_argument(
        "--outline-error",
        type=positive_number,
        metavar="MM",
        help="standard deviation of the error with which the outlines of these tumours are drawn (0)",
    )
    evaluate.add_argument(
        "--variants",
        choices=("all", "pipeline"),
        help="of --cross-anatomy: pipeline leaves out the clean registration and the true maps, which cost most (all)",
    )
    evaluate.add_argument(
        "--random-seed",
        type=int,
        metavar="S",
        help="of the synthetic queries (2022), of the tumours of known truth (0), or of --recurrence's bootstrap (0)",
    )
    evaluate.add_argument("--atlas", metavar="NAME|DIR", help="atlas of the database, where it is not bundled")
    evaluate.add_argument("--out", type=given_path, required=True, metavar="DIR", help="folder of tables and figures")
    evaluate.set_defaults(run=run_evaluate)

    predict = commands.add_parser(
        "predict-gbm", help="infer the patients of a folder as PREDICT-GBM's containers get it"
    )
    predict.add_argument("source", type=given_path, metavar="IN", help="with a folder Patient-ID for each patient")
    predict.add_argument("out", type=given_path, metavar="OUT", help="gets the density of each patient, ID.nii.gz")
    predict.set_defaults(run=run_predict_gbm, when_cancelled="the densities that were written by then stay")

    bench = commands.add_parser("bench", help="measure speed and accuracy against references")
    benches = bench.add_subparsers(title="benchmarks", required=True, metavar="BENCHMARK")
    for name, text in BENCHMARKS.items():
        one = benches.add_parser(name, help=text)
        one.add_argument("--json", type=given_path, metavar="FILE", help="write the figures there too")
        if name != "solver":
            heads = "heads to measure on as well: columns image and mask"
            real = heads if name == "brain" else "real patients to measure on as well"
            one.add_argument("--cohort", type=given_path, metavar="FILE.csv", help=real)
        if name == "query":
            one.add_argument("--database", default="starter", metavar="NAME|F", help="database to query (starter)")
            one.add_argument("--atlas", metavar="NAME|DIR", help="atlas of the database, where it is not bundled")
        one.set_defaults(run=run_bench, benchmark=name)


BENCHMARKS = {
    "solver": "the growth model against the field's reference scheme",
    "query": "the exact query against dense, packed and faiss searches",
    "pipeline": "the registration against known truth",
    "brain": "the brain extraction against masks of real heads",
}
#: What of a file's content shows that it is a benchmark's figures.
FIGURES_OF_BENCHMARKS = {
    "solver": ("seed_mm", "cases", "geometric_mean_ratio"),
    "query": ("database", "queries", "ratio_to_direct"),
    "pipeline": ("tissue_dice", "known_warp"),
    "brain": ("heads", "cores", "compiling_s"),
}


def whole_number(text: str) -> int:
    """A positive whole number, for argparse."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return value


def positive_number(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def number_from_0(text: str) -> float:
    """A number from 0, for argparse."""
    return 0.0 if text.strip() in ("0", "0.0") else positive_number(text)


def given_path(text: str) -> Path:
    """A path, for argparse; an empty one would be the working folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def share(text: str) -> float:
    """A number between 0 and 1, for argparse."""
    value = positive_number(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


def names(text: str) -> list[str]:
    """Names separated by commas, for argparse."""
    return [name.strip() for name in text.split(",") if name.strip()]


def add_patient_options(parser: argparse.ArgumentParser) -> None:
    """Options that name a patient's files."""
    files = parser.add_argument_group(
        "patient (NIfTI, NRRD, MHA files or DICOM series folders; with --study the UID or number of a series too)"
    )
    files.add_argument(
        "--study", type=given_path, metavar="DIR", help="DICOM study to take images and segmentation from"
    )
    files.add_argument("--t1gd", type=given_path, metavar="F", help="contrast-enhanced T1")
    files.add_argument("--flair", type=given_path, metavar="F", help="FLAIR; shown in the report")
    files.add_argument(
        "--t1", type=given_path, metavar="F", help="T1 without contrast; drives the registration where given"
    )
    files.add_argument(
        "--segmentation", type=given_path, metavar="F", help="label map, .seg.nrrd, DICOM SEG or RTSTRUCT"
    )
    files.add_argument("--core", type=given_path, metavar="F", help="mask of the tumour core (with --whole)")
    files.add_argument("--whole", type=given_path, metavar="F", help="mask of the whole tumour, oedema included")
    files.add_argument(
        "--labels",
        metavar="CONVENTION",
        help="brats2013, brats2018, brats2023, brats2024, brats-peds, decathlon, or like core=1,4/whole=1,2,4",
    )
    files.add_argument(
        "--segmentation-on",
        choices=("t1gd", "flair", "t1"),
        help="image that it was drawn on (by default the one whose grid it shares, else the T1Gd)",
    )
    files.add_argument(
        "--brain-mask", type=given_path, metavar="F", help="instead of the extraction where there is a skull"
    )
    files.add_argument(
        "--tissue-maps",
        type=given_path,
        nargs=3,
        metavar=("WM", "GM", "CSF"),
        help="probability maps of white matter, grey matter and CSF that the tumour grows in, instead of the atlas's",
    )
    files.add_argument(
        "--cavity", type=given_path, metavar="F", help="mask of the resection cavity, which plans count with the core"
    )


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """Options that choose how the inference is done; the defaults are those of `Method`."""
    method, usual = parser.add_argument_group("method"), Method()

    def add(name: str, text: str, **details: Any) -> None:
        default = getattr(usual, name)
        shown = "" if default is None else f" ({default})"
        method.add_argument(f"--{name.replace('_', '-')}", default=default, help=text + shown, **details)

    add("database", "bundled database or a file", metavar="NAME|F")
    add("atlas", "atlas of the database, where it is not bundled", metavar="NAME|DIR")
    add("strategy", "query strategy; direct is exact", metavar="NAME")
    method.add_argument(
        "--strategy-option",
        dest="strategy_options",
        action=NamedValue,
        default={},
        metavar="NAME=VALUE",
        help="an option of that strategy; may be given several times",
    )
    add("registration", "how the patient is mapped to the atlas", choices=REGISTRATIONS)
    add("refine", "fit better than any entry, in that anatomy; none is the paper's answer", choices=REFINEMENTS)
    add("refine_solves", "budget of the refinement in solves", type=whole_number, metavar="N")
    add("refine_seconds", "budget of the refinement in time", type=positive_number, metavar="S")
    add("foci", "tumours to fit; auto tries two where the core has two large parts", choices=FOCI)
    add("density", "estimate to show; auto is assimilated after a refinement, else match", choices=DENSITIES)
    method.add_argument("--uncertainty", action="store_true", help="find how sure the assimilated density is")
    add("level", "density that --uncertainty and --sensitivity give a volume above", type=share, metavar="U")
    add("tissue", "tissue of a refinement in the patient; own: as the patient's T1 shows it", choices=TISSUES)
    method.add_argument("--sensitivity", action="store_true", help="figures under other assumptions about the tissue")
    method.add_argument("--plan", action="store_true", help="make a guideline's plan, and the density's to compare")
    add_plan_options(method)
    method.add_argument(
        "--no-align",
        dest="align",
        action="store_false",
        default=usual.align,
        help="leave T1 and FLAIR where they lie, though the patient moved between them and the T1Gd",
    )
    add("top", "number of ranked matches", type=whole_number, metavar="K")


def add_plan_options(parser: Any) -> None:
    """Options of a plan, to a parser or a group of options; the defaults are those of `PlanChoices`."""
    usual = PlanChoices()
    margin = f"mm around core and cavity, or a guideline: {', '.join(GUIDELINES)} ({usual.margin:g})"
    parser.add_argument("--margin", default=usual.margin, metavar="MM|NAME", help=f"of the standard plan: {margin}")
    parser.add_argument(
        "--volume",
        default=usual.volume,
        metavar="same|ML|above=U",
        help=f"of the model's plan: as the standard's, in ml, or all that is denser than U ({usual.volume})",
    )
    parser.add_argument(
        "--barrier", choices=BARRIERS, default=usual.barrier, help=f"what plans are cut at ({usual.barrier})"
    )


class NamedValue(argparse.Action):
    """Collects NAME=VALUE into a dict."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        """Add one pair to those given before."""
        name, equals, value = str(values).partition("=")
        if not (name and equals):
            parser.error(f"argument --strategy-option: {values!r} is not of the form NAME=VALUE")
        setattr(namespace, self.dest, getattr(namespace, self.dest) | {name: value})


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A progress that is a bar on a terminal and quiet in a pipe."""
    from tqdm import tqdm

    bar = tqdm(
        total=1.0,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        leave=False,
        bar_format="{percentage:3.0f}% |{bar:30}| {elapsed} {desc}",
    )

    def report(value: float, message: str) -> None:
        with suppress(OSError):  # a terminal that went away is no reason to stop
            bar.set_description_str(message, refresh=False)
            bar.update(max(0.0, min(value, 1.0) - bar.n))

    try:
        yield report
    finally:
        with suppress(OSError):
            bar.close()


def run_infer(options: argparse.Namespace) -> None:
    """`tumorquery infer`."""
    from TumorQueryLib.jobs import infer_files, series_to_export_to

    names = ("study", "t1gd", "flair", "t1", "segmentation", "core", "whole", "brain_mask", "cavity")
    files = {name: getattr(options, name) for name in (*names, "labels", "segmentation_on")}
    if options.tissue_maps is not None:
        files |= dict(zip(("white_matter", "grey_matter", "csf"), options.tissue_maps))
    if options.study is None and options.t1gd is None:
        raise InputError("Give the T1Gd image with --t1gd, or a DICOM study with --study.")
    with progress_bar() as progress:
        if options.study is not None:
            files["study"] = study_to_take_from(options, progress=progress)
        series = series_to_export_to(files) if options.dicom else None
        result = infer_files(files, method_of(options), options.out, progress=progress)
    print_summary(result, options.out)
    if series is not None:
        export_to(options.out, series, options.out / EXPORT_FOLDER)


def run_export(options: argparse.Namespace) -> None:
    """`tumorquery export`."""
    export_to(options.result, options.dicom, options.out, t1gd=options.t1gd)


def export_to(result: Path, series: Any, out: Path, **given: Any) -> None:
    """Write a result as DICOM objects, and say what was written and what a user may miss."""
    from TumorQueryLib.results.dicom.export import export_dicom

    with progress_bar() as progress:
        export = export_dicom(result, series, out, progress=progress, **given)
    say(f"DICOM objects in {out}: {', '.join(path.name for path in export.files.values())}.")
    for note in export.notes:
        say(note)


def study_to_take_from(options: argparse.Namespace, *, progress: Progress) -> Study:
    """The study of `infer --study`, after saying what is taken from it."""
    from TumorQueryLib.inputs.dicom.choice import choose_series
    from TumorQueryLib.inputs.dicom.study import read_study
    from TumorQueryLib.inputs.dicom.study_table import choice_as_text

    study = read_study(options.study, progress=part(progress, 0.0, 0.02))
    named = {name: getattr(options, name) for name in ("t1gd", "flair", "t1", "segmentation")}
    masks = options.core is not None or options.whole is not None
    say(choice_as_text(choose_series(study, **named, needs_segmentation=not masks)))
    return study


def run_plan_command(options: argparse.Namespace) -> None:
    """`tumorquery plan`."""
    from TumorQueryLib.jobs import plan_result

    choices = PlanChoices(
        margin=options.margin,
        volume=options.volume,
        barrier=options.barrier,
        smallest_part_ml=options.smallest_part,
        share=options.share,
        probability=options.probability,
    )
    exported = os.path.exists(options.result / EXPORT_FOLDER)
    with progress_bar() as progress:
        plans, path = plan_result(options.result, choices, cavity=options.cavity, progress=progress)
    for warning in plans.warnings:
        say(f"Warning: {warning}")
    for sentence in plans.sentences():
        say(sentence)
    say(f"{path}, plan.png and the masks beside them have all of it.")
    if exported and not os.path.exists(options.result / EXPORT_FOLDER):
        say(f"{EXPORT_FOLDER} held no such plans and was removed; write it anew with `tumorquery export`.")


def run_study(options: argparse.Namespace) -> None:
    """`tumorquery study`."""
    from TumorQueryLib.base.files import holds_json, output_errors, refuse_to_replace, write_json
    from TumorQueryLib.inputs.dicom.study import read_study
    from TumorQueryLib.inputs.dicom.study_table import describe_study, study_as_text

    if options.json is not None:
        refuse_to_replace([options.json], [], lambda path: holds_json(path, ("studies", "chosen")))
    with progress_bar() as progress:
        study = read_study(options.study, progress=progress)
    say(study_as_text(study))
    if options.json is not None:
        with output_errors(options.json):
            write_json(describe_study(study), options.json)


def method_of(options: argparse.Namespace) -> Method:
    """The method that the options of `add_method_options` choose."""
    return Method(**{name: getattr(options, name) for name in Method().as_json()})


def run_cohort_command(options: argparse.Namespace) -> None:
    """`tumorquery cohort`; patients that failed are named, and make the exit status 2."""
    from TumorQueryLib.cohort import run_cohort

    path = options.cohort
    if os.path.isdir(path):
        path = list_folder(path, options.out)
        if options.list:
            return
    elif options.list:
        raise InputError(f"--list writes the CSV file of a folder, and {path} is none.")
    with progress_bar() as progress:
        rows = run_cohort(
            path,
            options.out,
            method=method_of(options),
            workers=options.workers,
            dask=options.dask,
            progress=progress,
        )
    failed = [row for row in rows if row["status"] != "done"]
    for row in failed:
        say(f"{row['patient']}: {row['error']}")
    say(f"{len(rows) - len(failed)} of {len(rows)} patients done; {options.out / 'summary.csv'} has a row for each.")
    if failed:
        raise InputError(f"{len(failed)} of {len(rows)} patients failed; {options.out / 'summary.csv'} says why.")


def list_folder(folder: Path, out: Path) -> Path:
    """Find the patients in a folder, say them and write their CSV file; returns its path."""
    from TumorQueryLib.inputs.cohort_folder import find_patients, write_cohort_file

    with progress_bar() as progress:
        found = find_patients(folder, progress=progress)
    say(f"{len(found.rows)} patients found in {folder} ({found.kind}).")
    for line in found.said:
        say(f"  {line}")
    path = write_cohort_file(found, out)
    say(f"{path} has a row for each.")
    return path


def print_summary(result: Result, out: Path) -> None:
    """The figures of the estimate whose density was written, and where its files are."""
    model, best = result.model, result.matches[0]
    for warning in result.warnings:
        say(f"Warning: {warning}")
    say(
        f"Best match: entry {best.entry} of {result.database.entries:,}, "
        f"Dice core {best.dice_core:.3f} + whole {best.dice_whole:.3f} = {best.dice_sum:.3f} in the atlas."
    )
    if result.refinement is not None:
        anatomy = result.estimates["refined"].anatomy.name
        say(
            f"Refined in the {anatomy}'s anatomy in {len(result.refinement.path)} solves ({result.refinement.stopped})."
        )
    lengths = " and ".join(f"{length:.2f} mm" for length in model.infiltration_lengths_mm)
    ages = " and ".join(f"{parameters.rho_t:.1f}" for parameters in model.parameters)
    shown = model.name if result.estimate is model else f"{result.chosen} to the outlines. Its model: {model.name}"
    say(
        f"Density shown: {shown}, Dice core {model.fit.dice_core:.3f} + whole "
        f"{model.fit.dice_whole:.3f} = {model.fit.dice_sum:.3f} in the patient, "
        f"infiltration length {lengths}, rho T {ages}."
    )
    if result.uncertainty is not None:
        for line in result.uncertainty.sentences():
            say(line)
    if result.plans is not None:
        for line in (*result.plans.sentences(), *(f"Warning: {said}" for said in result.plans.warnings)):
            say(line)
    if result.sensitivity:
        say(
            "Refined again under other assumptions about the tissue (none is fitted, and no figure says which is true):"
        )
    for row in result.sensitivity:
        say(f"With {row.sentence}.")
    steps = ", ".join(f"{name} {seconds:.2f}" for name, seconds in result.timings.items())
    say(f"Seconds: {steps}.")
    say(f"Results: {out / 'result.json'}, density.nrrd and report.png beside it.")


def run_demo(options: argparse.Namespace) -> None:
    """`tumorquery demo`: the sample case, whose true density is known."""
    import tempfile

    from TumorQueryLib.jobs import infer_files
    from TumorQueryLib.studies.painted_head import sample_with_head
    from TumorQueryLib.studies.sample import compare_with_truth, sample_files

    with tempfile.TemporaryDirectory(prefix="tumorquery-demo-") as folder, progress_bar() as progress:
        files = sample_with_head(Path(folder)) if options.head else sample_files()
        result = infer_files(files, Method(), options.out, progress=progress)
    print_summary(result, options.out)
    say("The sample's tumour was simulated in another brain, so the truth is known:")
    for line in compare_with_truth(result):
        say(f"  {line}")


def run_build(options: argparse.Namespace) -> None:
    """`tumorquery build`."""
    from TumorQueryLib.anatomy.atlas import Atlas
    from TumorQueryLib.database import build_database

    with progress_bar() as progress:
        build_database(
            options.database,
            Atlas.load(options.atlas),
            options.entries,
            sampling=options.sampling,
            random_seed=options.random_seed,
            workers=options.workers,
            dask=options.dask,
            resume=options.resume,
            progress=progress,
        )
    say(f"{options.database}: {options.entries:,} entries, {options.database.stat().st_size / 1e6:.1f} MB.")


def run_info(options: argparse.Namespace) -> None:
    """`tumorquery info`."""
    from TumorQueryLib.database import describe_database

    with progress_bar() as progress:
        described = describe_database(options.database, verify=options.verify, progress=progress)
    say(json.dumps(described, indent=2, ensure_ascii=False))


def run_train(options: argparse.Namespace) -> None:
    """`tumorquery train`."""
    from TumorQueryLib.database import TumorDatabase
    from TumorQueryLib.strategies.training import train_strategy

    with TumorDatabase.open(options.database) as database, progress_bar() as progress:
        path = train_strategy(
            database,
            options.strategy,
            architecture=options.architecture,
            random_seed=options.random_seed,
            progress=progress,
        )
    say(f"Trained: {path}")


def run_embed(options: argparse.Namespace) -> None:
    """`tumorquery embed`."""
    from TumorQueryLib.database import TumorDatabase
    from TumorQueryLib.strategies.training import embed_database

    with TumorDatabase.open(options.database) as database, progress_bar() as progress:
        path = embed_database(database, options.strategy, progress=progress)
    say(f"Embedded: {path}")


def run_evaluate(options: argparse.Namespace) -> None:
    """`tumorquery evaluate`."""
    from TumorQueryLib.database import TumorDatabase

    _refuse_what_has_no_effect(options)
    if options.recurrence is not None:
        _run_recurrence(options)
        return
    given = {} if options.random_seed is None else {"random_seed": options.random_seed}
    if _of_known_truth(options):
        _run_known_truth(options, given)
        return
    from TumorQueryLib.studies.strategies import evaluate

    with TumorDatabase.open(options.database) as database, progress_bar() as progress:
        evaluate(
            database,
            out=options.out,
            strategies=options.strategies,
            synthetic=1000 if options.synthetic is None else options.synthetic,
            cohort=options.cohort,
            registration=options.registration or "deformable",
            atlas=options.atlas,
            progress=progress,
            **given,
        )
    say((options.out / "tables.md").read_text(encoding="utf-8"))


def _run_recurrence(options: argparse.Namespace) -> None:
    """The coverage of recurrences; patients that could not be scored make the exit status 2."""
    from TumorQueryLib.studies.recurrence.evaluation import NAME, evaluate_recurrence

    with progress_bar() as progress:
        result = evaluate_recurrence(
            options.recurrence, options.out, random_seed=options.random_seed or 0, progress=progress
        )
    say((options.out / f"{NAME}.md").read_text(encoding="utf-8"))
    if result["left_out"]:
        count = len(result["left_out"])
        raise InputError(
            f"{count} of {count + result['patients']} patients could not be scored; the lines above say why."
        )


def _of_known_truth(options: argparse.Namespace) -> str | None:
    """The option of `evaluate` that asks for a study of made-up tumours, if one does."""
    asked = {
        "--cross-anatomy": options.cross_anatomy,
        "--calibration": options.calibration,
        "--plans": options.plans,
        "--starts": options.starts,
        "--sensitivity": options.sensitivity,
    }
    return next((name for name, value in asked.items() if value), None)


def _run_known_truth(options: argparse.Namespace, given: dict[str, Any]) -> None:
    """The studies of made-up tumours that were asked for, in one run."""
    from TumorQueryLib.database import TumorDatabase
    from TumorQueryLib.studies.calibration import Calibration
    from TumorQueryLib.studies.cross_anatomy import CrossAnatomy
    from TumorQueryLib.studies.known_truth.run import run_studies
    from TumorQueryLib.studies.known_truth.setting import Conditions
    from TumorQueryLib.studies.plans import PlansStudy
    from TumorQueryLib.studies.sensitivity import SensitivityStudy
    from TumorQueryLib.studies.starts import DEFAULT_COUNT, StartsStudy

    asked: list[Any] = []
    if options.cross_anatomy is not None:
        asked.append(CrossAnatomy(options.cross_anatomy, options.variants or "all"))
    if options.calibration is not None:
        asked.append(Calibration(options.calibration))
    if options.plans is not None:
        asked.append(PlansStudy(options.plans))
    count = max((study.count for study in asked), default=DEFAULT_COUNT)
    if options.starts:
        asked.append(StartsStudy(count))
    if options.sensitivity:
        asked.append(SensitivityStudy(count))
    options.when_cancelled = "the same call goes on with it"
    conditions = Conditions(mass_effect=options.mass_effect, outline_error_mm=options.outline_error or 0.0, **given)
    with TumorDatabase.open(options.database) as database, progress_bar() as progress:
        run_studies(asked, database, options.out, conditions=conditions, cohort=options.cohort, progress=progress)
    for study in asked:
        say((options.out / f"{study.name}.md").read_text(encoding="utf-8"))


def _refuse_what_has_no_effect(options: argparse.Namespace) -> None:
    """Refuse options of `evaluate` that the asked experiment would not look at."""
    if options.random_seed is not None and options.random_seed < 0:
        raise InputError(f"--random-seed is a whole number from 0, not {options.random_seed}.")
    if options.recurrence is not None:
        _refuse_beside_recurrence(options)
        return
    if options.database is None:
        raise InputError("Name a database to evaluate, a file or the name of a bundled one, such as starter.")
    if options.variants is not None and options.cross_anatomy is None:
        raise InputError("--variants is of --cross-anatomy N; name how many tumours, or leave it out.")
    study = _of_known_truth(options)
    if study is None:
        for name, given in (("mass-effect", options.mass_effect), ("outline-error", options.outline_error)):
            if given:
                raise InputError(
                    f"--{name} is of the tumours of --cross-anatomy N, --calibration N, --plans N, --starts and "
                    "--sensitivity; name one of them, or leave it out."
                )
        if options.registration is not None and options.cohort is None:
            raise InputError("--registration is of the patients of --cohort FILE.csv; name the file, or leave it out.")
        return
    if options.atlas is not None:
        raise InputError(f"--atlas is not for {study}, whose patients are of MNI152 and whose atlas is SRI24.")
    for name in ("cohort", "strategies", "synthetic", "registration"):
        if getattr(options, name) is not None and not (name == "cohort" and (options.starts or options.sensitivity)):
            raise InputError(
                f"--{name} is not for {study}, which grows its own patients and queries them by the pipeline; "
                "leave one of the two out."
            )


def _refuse_beside_recurrence(options: argparse.Namespace) -> None:
    """Refuse options of `evaluate` that the coverage of recurrences would not look at."""
    methods = ("database", "cohort", "strategies", "synthetic", "registration", "atlas")
    studies = ("cross_anatomy", "calibration", "plans", "starts", "sensitivity")
    others = (*methods, *studies, "mass_effect", "outline_error", "variants")
    given = [name for name in others if getattr(options, name) not in (None, False)]
    if given:
        named = "a database" if given[0] == "database" else f"--{given[0].replace('_', '-')}"
        raise InputError(
            f"{named} is not for --recurrence, which scores densities that are given; leave one of them out."
        )


def run_predict_gbm(options: argparse.Namespace) -> None:
    """`tumorquery predict-gbm`; patients that failed are named, and make the exit status 2, or 1 where by a defect."""
    from TumorQueryLib.studies.recurrence.container import Prediction, predict_folder

    def told(prediction: Prediction) -> None:
        for warning in prediction.warnings:
            say(f"{prediction.identifier}: Warning: {warning}")
        if prediction.fit is None:
            say(f"{prediction.identifier}: {prediction.error}")
            return
        lengths = " and ".join(f"{length:.2f} mm" for length in prediction.infiltration_lengths_mm)
        fit = prediction.fit
        say(
            f"{prediction.identifier}: Dice core {fit.dice_core:.3f} + whole {fit.dice_whole:.3f} = "
            f"{fit.dice_sum:.3f}, infiltration length {lengths}."
        )

    with progress_bar() as progress:
        predictions = predict_folder(options.source, options.out, told=told, progress=progress)
    failed = [prediction for prediction in predictions if prediction.error]
    say(f"{len(predictions) - len(failed)} of {len(predictions)} patients done; their densities are in {options.out}.")
    for prediction in failed:
        if prediction.defect is not None:
            raise prediction.defect
    if failed:
        raise InputError(f"{len(failed)} of {len(predictions)} patients failed; the lines above say why.")


def run_bench(options: argparse.Namespace) -> None:
    """`tumorquery bench`."""
    import importlib

    from TumorQueryLib.base.files import holds_json, output_errors, refuse_to_replace, write_json

    if options.json is not None:
        keys = FIGURES_OF_BENCHMARKS[options.benchmark]
        refuse_to_replace([options.json], [], lambda path: holds_json(path, keys))
    module = importlib.import_module(f"TumorQueryLib.studies.benchmarks.{options.benchmark}")
    given = {name: getattr(options, name) for name in ("cohort", "database", "atlas") if hasattr(options, name)}
    if given.get("cohort") is not None and not os.path.isfile(given["cohort"]):
        raise InputError(f"There is no cohort file {given['cohort']}; it is a CSV with a row for each patient.")
    with progress_bar() as progress:
        result = module.benchmark(**given, progress=progress)
    say(module.as_text(result))
    if options.json is not None:
        with output_errors(options.json):
            write_json(result, options.json)


def run_doctor(options: argparse.Namespace) -> None:
    """`tumorquery doctor`; what is wrong makes the exit status 2."""
    from TumorQueryLib.doctor import as_text, examine

    findings = examine()
    say(as_text(findings))
    wrong = [finding.topic for finding in findings if finding.remedy is not None]
    if wrong:
        raise InputError(f"not in order: {', '.join(wrong)}.")
