"""DICOM segmentations and contours, their elements altered one by one, their bytes damaged."""

import copy
import io
import random
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from mutations import damaged_bytes
from sample_as_dicom import EDEMA, NEOPLASM, Study, outlines_of

from TumorQueryLib.inputs.checks import ImageFile
from TumorQueryLib.inputs.image_files import read_image_file

AFFINE = np.array([[-2.0, 0.1, 0, 20], [0.1, 2.0, 0, -30], [0, 0, 3.0, 5], [0, 0, 0, 1]])


@dataclass
class Prepared:
    folder: Path
    contents: dict[str, bytes]
    image: ImageFile
    expected: dict[str, Any]


def prepare(folder: Path) -> Prepared:
    shape = (24, 20, 12)
    array = np.random.default_rng(5).integers(1, 1000, shape).astype(np.uint16)
    distance = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - [11, 9, 5], axis=-1)
    masks = {"a": distance < 3, "b": (distance >= 3) & (distance < 5.5)}
    study = Study()
    files = study.write_series(folder / "series", array, AFFINE)
    values = {name: mask * 0.8 for name, mask in masks.items()}
    codes = {"a": NEOPLASM, "b": EDEMA}
    study.write_segmentation(folder / "binary.dcm", files, masks, AFFINE, codes)
    study.write_segmentation(folder / "labels.dcm", files, masks, AFFINE, codes, "LABELMAP")
    study.write_segmentation(folder / "fractions.dcm", files, masks, AFFINE, codes, "FRACTIONAL", values)
    study.write_contours(folder / "contours.dcm", files, {k: outlines_of(m, AFFINE) for k, m in masks.items()}, codes)
    contents = {path.name: path.read_bytes() for path in sorted(folder.glob("*.dcm"))}
    image = read_image_file(folder / "series", "T1Gd")
    expected = {name: answer_of(folder / name, image) for name in contents}
    return Prepared(folder, contents, image, expected)


def answer_of(path: Path, image: ImageFile) -> Any:
    file = read_image_file(path, "segmentation", is_mask=True, references=(image,))
    segments = tuple((segment.name, segment.code, segment.mask.tobytes()) for segment in file.segments)
    return segments, file.volume.grid.shape, file.volume.grid.affine.tobytes()


def attempt(prepared: Prepared, generator: random.Random) -> str:
    name = generator.choice(sorted(prepared.contents))
    path = prepared.folder / f"altered_{name}"
    content = prepared.contents[name]
    path.write_bytes(
        damaged_bytes(content, generator) if generator.random() < 0.4 else altered_elements(content, generator)
    )
    answer = answer_of(path, prepared.image)
    return "same" if answer == prepared.expected[name] else "another segmentation, as its header says"


NUMBERS = ("0", "1", "-1", "2", "3", "255", "65535", "0.5", "1e-9", "1e9", "1e308", "-1e308", "nan", "inf")
WORDS = ("", "x", "BINARY", "FRACTIONAL", "LABELMAP", "CLOSED_PLANAR", "POINT", "1.2.3", "ü", "a" * 70)


def altered_elements(content: bytes, generator: random.Random) -> bytes:
    """A file with elements, wherever they are nested, exchanged, left out, emptied, doubled or exchanged in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = copy.deepcopy(pydicom.dcmread(io.BytesIO(content)))
        for _ in range(generator.choice((1, 1, 2, 4))):
            holders = [data, *_items_of(data)]
            # The few elements that all frames share are not to be drowned by the many frames.
            holder = generator.choice(holders if generator.random() < 0.5 else holders[:12])
            elements = list(holder)
            if not elements:
                continue
            element = generator.choice(elements)
            kind = generator.choice(("drop", "empty", "value", "value", "value", "double", "cut", "shuffle"))
            try:
                if kind == "drop":
                    del holder[element.tag]
                elif kind == "empty":
                    element.value = None
                elif element.VR == "SQ":
                    items = list(element.value)
                    if kind == "double":
                        items += copy.deepcopy(items[:2])
                    elif kind == "cut":
                        items = items[: len(items) // 2]
                    else:
                        generator.shuffle(items)
                    element.value = items
                elif element.VR in ("DS", "IS", "US", "UL", "FD", "FL", "SS"):
                    element.value = _altered_number(element, generator)
                elif isinstance(element.value, bytes):
                    element.value = damaged_bytes(element.value or b"\0", generator)
                else:
                    element.value = generator.choice(WORDS)
            except Exception:
                # What pydicom does not let be written, no file holds.
                continue
        stored = io.BytesIO()
        try:
            data.save_as(stored)
        except Exception:
            return damaged_bytes(content, generator)
    return stored.getvalue()


def _altered_number(element: Any, generator: random.Random) -> Any:
    """Another value of an element that holds numbers, one of several exchanged."""
    text = generator.choice(NUMBERS)
    value: Any = text if element.VR in ("DS", "IS") else float(text) if element.VR in ("FD", "FL") else int(float(text))
    if element.VM < 2:
        return value
    values = list(element.value)
    values[generator.randrange(len(values))] = value
    return values


def _items_of(dataset: Any) -> list[Any]:
    """All items of all sequences, however deep."""
    found = []
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value or []:
                found += [item, *_items_of(item)]
    return found
