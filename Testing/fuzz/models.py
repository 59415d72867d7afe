"""Model files: bytes damaged, headers and descriptions crafted, tensors exchanged.

A model that was written whole with other numbers and a sum of its own is another model.
"""

import json
import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mutations import changed_json, damaged_bytes, json_text
from safetensors.torch import load_file, save_file

from TumorQueryLib.strategies.models import content_sum, load_encoders
from TumorQueryLib.strategies.networks import Architecture, Autoencoder

KINDS = ("ae", "vae", "bihash")


@dataclass
class Prepared:
    folder: Path
    contents: dict[str, bytes]
    descriptions: dict[str, Any]
    tensors: dict[str, Any]
    expected: dict[str, Any]


def prepare(folder: Path) -> Prepared:
    from TumorQueryLib.strategies.models import save_encoders

    torch.manual_seed(3)
    prepared = Prepared(folder, {}, {}, {}, {})
    for kind in KINDS:
        architecture = Architecture.pooled(kind, (0, 0, 0), (4, 4, 4), latent=64, rank=4, channels=(2,))
        encoders = {region: Autoencoder(architecture).encoder for region in ("core", "whole")}
        thresholds = {region: torch.zeros(64).numpy() for region in encoders} if kind == "bihash" else {}
        description = {"strategy": kind, "architecture": architecture.as_dict(), "atlas_sha256": "0" * 64}
        path = folder / f"{kind}.safetensors"
        save_encoders(path, description, encoders, thresholds)
        prepared.contents[kind] = path.read_bytes()
        length = struct.unpack("<Q", prepared.contents[kind][:8])[0]
        header = json.loads(prepared.contents[kind][8 : 8 + length])
        prepared.descriptions[kind] = json.loads(header["__metadata__"]["tumorquery"])
        prepared.tensors[kind] = load_file(path)
        prepared.expected[kind] = answer_of(path, kind)
    return prepared


def answer_of(path: Path, kind: str) -> tuple:
    model = load_encoders(path, kind)
    shape = (2, *model.pooling.shape)
    shares = (torch.arange(torch.Size(shape).numel()) % 7 / 7).reshape(shape).float().numpy()
    codes = {region: model.encode(region, shares).tobytes() for region in ("core", "whole")}
    thresholds = {region: values.tobytes() for region, values in model.thresholds.items()}
    return codes, thresholds, model.pooling, model.description


def attempt(prepared: Prepared, generator: random.Random) -> str:
    kind = generator.choice(KINDS)
    path = prepared.folder / "crafted.safetensors"
    how = generator.choice(("bytes", "bytes", "header", "description", "tensors"))
    another = False
    try:
        if how == "bytes":
            path.write_bytes(damaged_bytes(prepared.contents[kind], generator))
        elif how == "header":
            write_header(path, prepared.contents[kind], generator)
        else:
            description, tensors = dict(prepared.descriptions[kind]), dict(prepared.tensors[kind])
            if how == "description":
                part = "architecture" if generator.random() < 0.7 else None
                changed = changed_json(description if part is None else description[part], generator)
                description = changed if part is None else description | {part: changed}
            else:
                change_tensors(tensors, generator)
            # As whoever crafts a file would: with a sum that fits.
            if isinstance(description, dict) and generator.random() < 0.8:
                description["content_sha256"] = content_sum(description, tensors)
                another = True
            save_file(tensors, path, metadata={"tumorquery": json_text(description).decode()})
    except (ValueError, TypeError, RuntimeError, UnicodeEncodeError, RecursionError, OverflowError):
        return "not made"
    found = answer_of(path, kind)
    if found == prepared.expected[kind]:
        return "same"
    return "another model with its own sum" if another else "wrong: another model"


def write_header(path: Path, content: bytes, generator: random.Random) -> None:
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    if generator.random() < 0.3:
        claimed = generator.choice((0, 1, length - 1, length + 1, 10**6, 2**32, 2**63, 2**64 - 1))
        path.write_bytes(struct.pack("<Q", claimed) + content[8:])
        return
    name = generator.choice(list(header))
    if name == "__metadata__" or generator.random() < 0.2:
        header = changed_json(header, generator)
    else:
        tensor = header[name]
        which = generator.choice(("dtype", "shape", "data_offsets"))
        tensor[which] = {
            "dtype": generator.choice(("F16", "F32", "F64", "I64", "BOOL", "BF16", "U8", "F8_E4M3", "x", None)),
            "shape": generator.choice(([], [0], [2**40, 2**40], [-1], [2**63], [1, 2], tensor["shape"][::-1])),
            "data_offsets": generator.choice(([0, 0], [0, 2**62], [2**62, 0], [-1, 1], [0, len(data)], None, "x")),
        }[which]
    text = json_text(header)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def change_tensors(tensors: dict[str, Any], generator: random.Random) -> None:
    name = generator.choice(list(tensors))
    kind = generator.choice(("drop", "rename", "shape", "type", "nan", "value", "extra", "huge"))
    tensor = tensors[name]
    if kind == "drop":
        del tensors[name]
    elif kind == "rename":
        tensors[name.replace(".", "x", 1)] = tensors.pop(name)
    elif kind == "shape":
        tensors[name] = torch.zeros(generator.choice(((1,), (0,), (3, 3), (*tensor.shape, 2))), dtype=torch.float16)
    elif kind == "type":
        tensors[name] = tensor.to(generator.choice((torch.float32, torch.int8, torch.bool, torch.bfloat16)))
    elif kind == "nan":
        tensors[name] = torch.full_like(tensor, generator.choice((float("nan"), float("inf"))))
    elif kind == "value":
        tensors[name] = tensor + 1
    elif kind == "extra":
        tensors["core.extra"] = tensor.clone()
    else:
        tensors[name] = torch.zeros((2000, 2000), dtype=torch.float16)
