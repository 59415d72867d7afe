"""Many patients without a main window, each saved as a Slicer scene.

Run it with Slicer (arguments of Slicer come before --python-script)::

    Slicer --no-splash --no-main-window --python-script .../TumorQueryModule/batch.py --cohort FILE.csv --out DIR

The cohort file is that of `tumorquery cohort`, read and judged by the library as it is there. For every patient the
folder DIR/PATIENT gets the files of the result and the scene PATIENT.mrb, and DIR/summary.csv says what became of each,
as `tumorquery cohort` does; files that no run wrote are not replaced. The exit status is 0 when all patients are done,
1 when one failed or took too long, 2 when the call is wrong or Python packages are missing: nobody is asked whether to
install them.
"""

import argparse
import sys
import traceback
from pathlib import Path
from typing import Any

import slicer


def main(arguments: list[str]) -> int:
    """Do what the command line asks for.

    :return: the exit status.
    """
    import TumorQuery
    from TumorQueryModule.Choices import checkMethod
    from TumorQueryModule.Dependencies import DependencyError
    from TumorQueryModule.Jobs import Method, absoluteDatabase
    from TumorQueryModule.Logic import RunError

    parser = argparse.ArgumentParser(prog="batch.py", description="Infer tumor cell densities of many patients.")
    patients = parser.add_mutually_exclusive_group(required=True)
    patients.add_argument("--cohort", type=Path, metavar="FILE.csv", help="a row for each patient")
    patients.add_argument("--sample", action="store_true", help="the bundled sample case")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--database", default=Method.database, metavar="NAME|F", help="bundled or a file (%(default)s)")
    parser.add_argument("--strategy", default=Method.strategy, metavar="NAME", help="query strategy (%(default)s)")
    parser.add_argument("--registration", default=Method.registration, choices=("deformable", "affine", "none"))
    parser.add_argument("--refine", default=Method.refine, choices=("none", "atlas", "patient"))
    parser.add_argument("--foci", default=Method.foci, choices=("auto", "1", "2"))
    parser.add_argument("--tissue", default=Method.tissue, choices=("atlas", "own"))
    parser.add_argument("--sensitivity", action="store_true", help="refine again under other assumptions of the tissue")
    parser.add_argument("--density", default=Method.density, choices=("auto", "match", "refined", "assimilated"))
    parser.add_argument("--uncertainty", action="store_true", help="find how sure the assimilated density is")
    parser.add_argument(
        "--level", type=float, default=Method.level, metavar="U", help="density of the bounds (%(default)s)"
    )
    parser.add_argument("--top", type=int, default=Method.top, metavar="K", help="ranked matches (%(default)s)")
    parser.add_argument("--no-align", action="store_true", help="leave FLAIR and T1 where they lie")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds for one patient; without it no limit")
    try:
        options = parser.parse_args(arguments)
        logic = TumorQuery.TumorQueryLogic()
        if logic.missingRequirements() and slicer.app.testingEnabled():
            print("Skipped: Python packages are missing, and in a test of Slicer's nothing is installed.")
            return 0
        method = Method(
            database=absoluteDatabase(options.database),
            strategy=options.strategy,
            registration=options.registration,
            refine=options.refine,
            foci=options.foci,
            tissue=options.tissue,
            sensitivity=options.sensitivity,
            density=options.density,
            uncertainty=options.uncertainty,
            level=options.level,
            top=options.top,
            align=not options.no_align,
        )
        checkMethod(method)
        logic.ensureRequirements(options.strategy)
        rows = rowsOf(options.cohort, options.out)
    except SystemExit as error:  # argparse has said what is wrong
        return int(error.code or 0)
    except (ValueError, DependencyError) as error:
        print(error, file=sys.stderr)
        return 2
    from TumorQueryLib.cohort import SUMMARY_FILE, failed_row, summary_row, write_summary

    summary = []
    for row in rows:
        slicer.mrmlScene.Clear()
        try:
            summary.append(
                summary_row(row.patient, inferAndSave(row, options.out / row.patient, method, options.timeout))
            )
        except (ValueError, TimeoutError, RunError) as error:
            traceback.print_exc()
            summary.append(failed_row(row.patient, getattr(error, "message", str(error))))
        except Exception as error:  # one patient never stops the rest
            traceback.print_exc()
            summary.append(failed_row(row.patient, f"defect: {type(error).__name__}: {error}"))
        print(f"{row.patient}: {summary[-1]['status']} {summary[-1]['error']}", flush=True)
        write_summary(summary, options.out / SUMMARY_FILE)
    slicer.mrmlScene.Clear()
    return 0 if all(row["status"] == "done" for row in summary) else 1


def rowsOf(cohort: Path | None, out: Path) -> list[Any]:
    """The patients as the library's `CohortRow`, by absolute paths; the sample case without a cohort file.

    The folder of the results is made.

    :raises ValueError: when the file cannot be read or the folder cannot be used; the text says why.
    """
    from TumorQueryModule import Dependencies, SampleCase

    Dependencies.importLibrary()
    from TumorQueryLib.base.errors import TumorQueryError
    from TumorQueryLib.base.files import output_errors
    from TumorQueryLib.cohort import SUMMARY_FILE, refuse_foreign_summary
    from TumorQueryLib.inputs.cohort_file import CohortRow, read_cohort

    sample = SampleCase.sampleFiles()
    try:
        rows = [CohortRow("sample", sample)] if cohort is None else read_cohort(cohort.absolute())
        refuse_foreign_summary(out / SUMMARY_FILE, Path(sample["t1gd"]) if cohort is None else cohort)
        with output_errors(out):
            out.mkdir(parents=True, exist_ok=True)
    except TumorQueryError as error:
        raise ValueError(str(error)) from error
    return rows


def inferAndSave(row: Any, folder: Path, method: Any, timeout: float | None) -> dict[str, Any]:
    """Infer one patient and save the scene.

    :return: the content of result.json.
    :raises ValueError: when a scene of that name is there and no run's result.
    """
    import TumorQuery
    from TumorQueryLib.results.folder import written_by_a_run
    from TumorQueryModule import Overlay

    scene = folder / f"{row.patient}.mrb"
    if scene.exists() and not written_by_a_run(folder):
        raise ValueError(
            f"The output folder {folder} holds {scene.name} and no result of TumorQuery, and the patient's scene "
            "would replace it; name another folder, or move that away."
        )
    result = TumorQuery.TumorQueryLogic().runRow(row, folder, method, timeout)
    Overlay.showAsOutlines(result.segmentation)
    Overlay.showInSliceViews(result.t1gd, result.density, 0.6)
    if not slicer.util.saveScene(str(scene)):
        raise RuntimeError(f"The scene {scene} cannot be written.")
    return result.content


if __name__ == "__main__":
    # Slicer goes on after a script and after its exceptions, so end it in every case.
    status = 1
    try:
        status = main(sys.argv[1:])
    except Exception:
        traceback.print_exc()
    finally:
        slicer.util.exit(status)
