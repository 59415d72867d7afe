"""Results that were written, damaged and crafted, then read back and used by the job `match`.

A result.json that was altered and is whole is another result: nothing says what it was. Files that were
exchanged with their sums in result.json are another's too.
"""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import SimpleITK as sitk
from jobs import prepared_world
from mutations import changed_json, damaged_bytes, json_text
from small_world import world_patient, write_patient

from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.transforms import displacement_transform
from TumorQueryLib.jobs import infer_files, show_match
from TumorQueryLib.results.files import _sha256, read_result


@dataclass
class Prepared:
    folder: Path
    result: Path
    atlas: str
    content: Any
    expected: Any


def prepare(folder: Path) -> Prepared:
    world = prepared_world(folder)
    files = write_patient(folder / "patient", world_patient())
    result = folder / "result"
    infer_files(files, world.method(refine="none", top=3), result)
    (result / "report.png").write_bytes(b"")
    # A row of an affine transform and a field, as a deformable registration has it.
    grid = Grid.isotropic(8, 20.0, (3, -7, 11)).cropped((0, 0, 0), (5, 6, 7))
    field = displacement_transform(np.zeros((3, *grid.shape), np.float32), grid)
    row = sitk.CompositeTransform([sitk.AffineTransform(3), field])
    sitk.WriteTransform(row, str(result / "patient_to_atlas.h5"))
    renew_sums(result)
    prepared = Prepared(folder, result, str(world.atlas_folder), None, None)
    prepared.content = json.loads((result / "result.json").read_text(encoding="utf-8"))
    prepared.expected = answer_of(result, prepared.atlas)
    return prepared


def renew_sums(folder: Path) -> None:
    path = folder / "result.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in content["sha256"]:
        content["sha256"][name] = _sha256(folder / name)
    path.write_text(json.dumps(content), encoding="utf-8")


def answer_of(folder: Path, atlas: str) -> Any:
    read = read_result(folder)
    volumes = [(v.array.tobytes(), v.grid) for v in (read.density, read.core, read.whole)]
    there, back = read.space.patient_to_atlas, read.space.atlas_to_patient
    places = [t.TransformPoint(point) for t in (there, back) for point in ((0.0, 0.0, 0.0), (10.0, -20.0, 30.0))]
    match = show_match(folder, 1, atlas=atlas)
    shown = sitk.GetArrayFromImage(sitk.ReadImage(str(match))).tobytes()
    return volumes, places, shown, read.matches, read.matched_parameters, read.warnings


def attempt(prepared: Prepared, generator: random.Random) -> str:
    folder = prepared.folder / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared.result, folder)
    kind = generator.choice(("file", "file", "json", "json bytes", "crafted"))
    another = False
    if kind == "json":
        another = True
        (folder / "result.json").write_bytes(json_text(changed_json(prepared.content, generator)))
    elif kind == "json bytes":
        another = True
        content = (folder / "result.json").read_bytes()
        (folder / "result.json").write_bytes(damaged_bytes(content, generator))
    else:
        names = sorted(prepared.content["sha256"])
        name = generator.choice([name for name in names if kind == "file" or name.endswith(".h5")] + [names[0]])
        path = folder / name
        if kind == "crafted" and name.endswith(".h5") and generator.random() < 0.7:
            alter_transform(path, generator)
        else:
            path.write_bytes(damaged_bytes(path.read_bytes(), generator))
        if kind == "crafted":
            renew_sums(folder)
            another = True
    found = answer_of(folder, prepared.atlas)
    if found == prepared.expected:
        return "same"
    return "another result by its own sums" if another else "wrong: another result"


def alter_transform(path: Path, generator: random.Random) -> None:
    with h5py.File(path, "r+") as file:
        group = file[f"TransformGroup/{generator.choice(sorted(file['TransformGroup']))}"]
        name = generator.choice(("TransformType", "TransformParameters", "TransformFixedParameters"))
        kind = generator.choice(("value", "rows", "type", "link", "external", "delete", "claim", "group", "more"))
        if kind == "more":
            file.copy(group, file["TransformGroup"], str(generator.choice((3, 7, 99))))
            return
        if kind == "group":
            del file[group.name]
            return
        if name not in group:
            return
        values = group[name][:]
        if name == "TransformType":
            del group[name]
            if kind != "delete":
                new = generator.choice((b"BSplineTransform_double_3_3", b"Affine", b"", b"%s%n", b"x" * 10_000))
                group.create_dataset(name, data=[new], dtype=h5py.string_dtype())
            return
        if kind == "value":
            values[generator.randrange(len(values))] = generator.choice((np.nan, np.inf, 0, -1, 1e300, 1e9, 0.5, 2))
            group[name][:] = values
            return
        del group[name]
        if kind == "rows":
            group[name] = np.resize(values, generator.choice((0, 1, 3, 12, 18, len(values) - 1, len(values) + 3)))
        elif kind == "type":
            group[name] = values.astype(generator.choice(("<f4", ">f8", "<i8", "S8", "<c16")))
        elif kind == "link":
            group[name] = generator.choice((h5py.SoftLink("/TransformGroup"), h5py.ExternalLink("x.h5", "/x")))
        elif kind == "external":
            group.create_dataset(name, values.shape, values.dtype, external=[("other", 0, values.nbytes)])
        elif kind == "claim":
            rows = generator.choice((10**9, 2**40))
            group.create_dataset(name, (rows,), "<f8", **generator.choice(({}, {"chunks": (1000,)})))
