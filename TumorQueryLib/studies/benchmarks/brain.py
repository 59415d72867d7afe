"""How well and how fast the brain of a head's image is found.

Always on the atlas's brain in a painted head, whose outline is known; on real heads where a list of them is given.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.brain import extract_brain
from TumorQueryLib.anatomy.brain_network import BOX_NETWORK, MULTIPLE, load_network
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.parallel import available_cores
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.base.timing import Stopwatch
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.regions import dice
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.studies.phantom import head_with_skull

COLUMNS = ("image", "mask")
PAINTED = "painted head"


def benchmark(cohort: str | os.PathLike | None = None, *, progress: Progress = no_progress) -> dict[str, Any]:
    """Measure the brain extraction.

    Parameters
    ----------
    cohort : path, optional
        CSV file with the columns `image` (a head with its skull) and `mask` (its brain, on the image's grid); paths
        are relative to it.
    progress : Progress

    Returns
    -------
    dict
        `heads` [{`head`, `dice`, `found_ml`, `mask_ml`, `wall_s`, `cpu_s`}], the painted head first; `cores`;
        `compiling_s`, wall, or of loading what was compiled before; `peak_memory_mb` of this process, None where the
        system does not say.

    Raises
    ------
    InputError
        When the CSV file or a file that it names cannot be read, a mask is not on its image's grid, or no brain is
        found.
    """
    rows = [] if cohort is None else read_heads(cohort)
    steps = len(rows) + 1
    # Compiling, or loading what was compiled, is no part of an extraction.
    with Stopwatch() as compiling:
        load_network(BOX_NETWORK).log_odds(np.zeros((MULTIPLE,) * 3, np.float32))
    heads = [_measured(PAINTED, *head_with_skull(Atlas.load()), progress=part(progress, 0, 1 / steps))]
    for number, (image_path, mask_path) in enumerate(rows, start=1):
        image = read_image_file(image_path, "head").volume
        mask = read_image_file(mask_path, "mask", is_mask=True).volume
        if not mask.grid.matches(image.grid):
            raise InputError(
                f"The mask {mask_path} does not lie on the grid of {image_path} (of the same place, voxel size and "
                "shape); a mask is drawn on the image that it belongs to."
            )
        report = part(progress, number / steps, (number + 1) / steps)
        heads.append(_measured(image_path.name, image, Volume(mask.array > 0.5, mask.grid), progress=report))
    return {
        "heads": heads,
        "cores": available_cores(),
        "compiling_s": compiling.wall,
        "peak_memory_mb": peak_memory_mb(),
    }


def as_text(result: dict[str, Any]) -> str:
    """The result of `benchmark` as a table for people."""
    lines = [
        f"Brain extraction, {result['cores']} cores",
        f"  {'head':32s}   Dice  found ml  mask ml  wall s  CPU s",
        *(
            f"  {head['head'][:32]:32s}  {head['dice']:.3f}  {head['found_ml']:8.0f}  {head['mask_ml']:7.0f}"
            f"  {head['wall_s']:6.1f}  {head['cpu_s']:5.1f}"
            for head in result["heads"]
        ),
    ]
    memory = result["peak_memory_mb"]
    said = "" if memory is None else f"; at most {memory:.0f} MB of memory"
    return "\n".join([*lines, f"  compiling, once: {result['compiling_s']:.1f} s{said}"])


def read_heads(path: str | os.PathLike) -> list[tuple[Path, Path]]:
    """Images and masks of a CSV file with the columns `image` and `mask`, in its order.

    Raises
    ------
    InputError
        When it cannot be read, lacks a column, has no row, or a row names no image or no mask.
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The list of heads {path} cannot be read ({error}); it is a CSV file in UTF-8.") from error
    wanted = f"accepted is a CSV file with the columns {' and '.join(COLUMNS)} and a row for each head"
    if not rows:
        raise InputError(f"The list of heads {path} has no row below its heading; {wanted}.")
    missing = [column for column in COLUMNS if column not in rows[0]]
    if missing:
        raise InputError(f"The list of heads {path} lacks the column {' and '.join(missing)}; {wanted}.")
    heads = []
    for number, row in enumerate(rows, start=1):
        named = [(row[column] or "").strip() for column in COLUMNS]
        if not all(named):
            raise InputError(f"Row {number} of the list of heads {path} names no image or no mask; {wanted}.")
        heads.append((path.parent / named[0], path.parent / named[1]))
    return heads


def peak_memory_mb() -> float | None:
    """The most memory that this process had at a time, in MB."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _measured(name: str, image: Volume, mask: Volume, *, progress: Progress) -> dict[str, Any]:
    with Stopwatch() as taken:
        found = extract_brain(image, progress=progress)
    voxel = image.grid.voxel_volume_ml
    return {
        "head": name,
        "dice": dice(found.array, mask.array),
        "found_ml": float(np.count_nonzero(found.array) * voxel),
        "mask_ml": float(np.count_nonzero(mask.array) * voxel),
        "wall_s": taken.wall,
        "cpu_s": taken.cpu,
    }
