"""Many patients without a main window, each saved as a Slicer scene.

Run it with Slicer (arguments of Slicer come before --python-script)::

    Slicer --no-splash --no-main-window --python-script .../TumorQueryModule/batch.py --cohort FILE.csv --out DIR

The cohort file is that of `tumorquery cohort`: a row for each patient with the columns patient, t1gd and, as far as
they apply, flair, t1, segmentation, core, whole, labels, brain_mask; paths are relative to it. For every patient the
folder DIR/PATIENT gets PATIENT.mrb, density.nrrd and result.json, and DIR/summary.csv says what became of each, as
`tumorquery cohort` does. The exit status is 0 when all patients are done, 1 when one failed or took too long, 2 when
the call is wrong or Python packages are missing: nobody is asked whether to install them.
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
    from TumorQueryModule.Dependencies import DependencyError
    from TumorQueryModule.Jobs import Method
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
    parser.add_argument("--top", type=int, default=Method.top, metavar="K", help="ranked matches (%(default)s)")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds for one patient; without it no limit")
    try:
        options = parser.parse_args(arguments)
        logic = TumorQuery.TumorQueryLogic()
        if logic.missingRequirements() and slicer.app.testingEnabled():
            print("Skipped: Python packages are missing, and in a test of Slicer's nothing is installed.")
            return 0
        logic.ensureRequirements(options.strategy)
        cases = sampleCases() if options.sample else cohortCases(options.cohort)
    except SystemExit as error:  # argparse has said what is wrong
        return int(error.code or 0)
    except (ValueError, DependencyError) as error:
        print(error, file=sys.stderr)
        return 2
    from TumorQueryLib.cohort import failed_row, summary_row, write_summary

    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, files in cases:
        slicer.mrmlScene.Clear()
        try:
            rows.append(summary_row(name, inferAndSave(name, files, options)))
        except (ValueError, TimeoutError, RunError) as error:
            traceback.print_exc()
            rows.append(failed_row(name, getattr(error, "message", str(error))))
        except Exception as error:  # one patient never stops the rest
            traceback.print_exc()
            rows.append(failed_row(name, f"defect: {type(error).__name__}: {error}"))
        print(f"{name}: {rows[-1]['status']} {rows[-1]['error']}", flush=True)
        write_summary(rows, options.out / "summary.csv")
    slicer.mrmlScene.Clear()
    return 0 if all(row["status"] == "done" for row in rows) else 1


def cohortCases(path: Path) -> list[tuple[str, dict[str, str] | None]]:
    """Name and files of every patient of a cohort file.

    :raises ValueError: when it cannot be read; the text says why.
    """
    from TumorQueryModule import Dependencies

    Dependencies.importLibrary()
    from TumorQueryLib.base.errors import TumorQueryError
    from TumorQueryLib.inputs.cohort_file import read_cohort

    try:
        return [(row.patient, row.files) for row in read_cohort(path)]
    except TumorQueryError as error:
        raise ValueError(str(error)) from error


def sampleCases() -> list[tuple[str, dict[str, str] | None]]:
    """The sample case, which has no files of its own."""
    return [("sample", None)]


def loadPatient(files: dict[str, str] | None) -> dict[str, Any]:
    """Load a patient's files into the scene.

    :return: arguments of `TumorQueryLogic.run`.
    """
    import TumorQuery

    if files is None:
        nodes = TumorQuery.TumorQueryLogic().loadSample()
        return {
            "t1gdNode": nodes["t1gd"],
            "flairNode": nodes["flair"],
            "segmentationNode": nodes["segmentation"],
        }
    if "study" in files:
        raise ValueError(
            "A patient with a DICOM study is run by 'tumorquery cohort', or loaded from Slicer's database."
        )
    arguments: dict[str, Any] = {"labels": files.get("labels")}
    for role in ("t1gd", "flair", "t1"):
        if role in files:
            arguments[f"{role}Node"] = slicer.util.loadVolume(files[role], {"show": False})
    if "brain_mask" in files:
        arguments["brainMaskNode"] = slicer.util.loadLabelVolume(files["brain_mask"], {"show": False})
    if "segmentation" not in files:
        arguments["segmentationNode"] = segmentationOfMasks(files)
        arguments["coreSegmentIDs"] = ("core",) if "core" in files else ()
        arguments["wholeSegmentIDs"] = ("whole",)
    elif files["segmentation"].endswith((".seg.nrrd", ".seg.nhdr")):
        arguments["segmentationNode"] = slicer.util.loadSegmentation(files["segmentation"])
    else:
        arguments["segmentationNode"] = slicer.util.loadLabelVolume(files["segmentation"], {"show": False})
    return arguments


def segmentationOfMasks(files: dict[str, str]) -> Any:
    """A segmentation node with the segments "core" and "whole" from two mask files."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
    for region in ("core", "whole"):
        if region not in files:
            continue
        mask = slicer.util.loadLabelVolume(files[region], {"show": False})
        node.GetSegmentation().AddEmptySegment(region, region)
        values = (slicer.util.arrayFromVolume(mask) > 0).astype("uint8")
        slicer.util.updateSegmentBinaryLabelmapFromArray(values, node, region, mask)
        slicer.mrmlScene.RemoveNode(mask)
    return node


def inferAndSave(name: str, files: dict[str, str] | None, options: argparse.Namespace) -> dict[str, Any]:
    """Infer one patient and save the scene.

    :return: the content of result.json.
    """
    import TumorQuery
    from TumorQueryModule import Overlay
    from TumorQueryModule.PatientNodes import writeVolume

    arguments = loadPatient(files)
    result = TumorQuery.TumorQueryLogic().run(
        **arguments,
        database=options.database,
        strategy=options.strategy,
        registration=options.registration,
        refine=options.refine,
        foci=options.foci,
        top=options.top,
        timeout=options.timeout,
    )
    Overlay.showInSliceViews(arguments["t1gdNode"], result.density, 0.6)
    folder = options.out / name
    folder.mkdir(parents=True, exist_ok=True)
    writeVolume(result.density, folder / "density.nrrd")
    (folder / "result.json").write_text(result.report.GetText(), encoding="utf-8")
    if not slicer.util.saveScene(str(folder / f"{name}.mrb")):
        raise RuntimeError(f"The scene {folder / name}.mrb cannot be written.")
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
