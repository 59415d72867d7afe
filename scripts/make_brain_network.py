"""Make the networks of the brain extraction from the wheel of deepbet, and compare them with it.

    python scripts/make_brain_network.py WHEEL                    -> Resources/Models: brain_network.npz, its licence
    python scripts/make_brain_network.py WHEEL --check IMAGE ...

WHEEL is deepbet-1.0.2-py3-none-any.whl of PyPI, whose sum is checked. The weights of both TorchScript networks are
stored as int8 with a scale for each output channel, the biases as float32; the same wheel gives the same bytes (with
the same zlib). With --check nothing is written: for each image the brain by the bundled file is compared with the one
by the weights in float32, and with the one by deepbet's networks and steps in PyTorch.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from TumorQueryLib.anatomy import brain
from TumorQueryLib.anatomy.brain_network import BOX_NETWORK, BRAIN_NETWORK, BrainNetwork, load_network
from TumorQueryLib.geometry.regions import dice
from TumorQueryLib.inputs.image_files import read_image_file

WHEEL_SHA256 = "1999e2ea00ec48f6233b95b96f3901a962d3f70431c63aeb985e8a49a198473c"
FILE, LICENCE = "brain_network.npz", "LICENSE_deepbet.txt"
ABOUT = {
    "source": "deepbet 1.0.2, https://pypi.org/project/deepbet/1.0.2/, data/models/{bbox_model,model}.pt",
    "wheel_sha256": WHEEL_SHA256,
    "licence": "MIT",
    "attribution": (
        "(c) 2023 Medical Machine Learning Lab - University of Münster. L. Fisch, S. Zumdick, C. Barkhau, D. Emden, "
        "J. Ernsting, R. Leenings, K. Sarink, N. R. Winter, B. Risse, U. Dannlowski, T. Hahn, deepbet: Fast brain "
        "extraction of T1-weighted MRI using Convolutional Neural Networks, Computers in Biology and Medicine "
        "179:108845, 2024, doi:10.1016/j.compbiomed.2024.108845. Changes: weights rounded to int8 with a scale for "
        "each output channel."
    ),
}


def read_wheel(path: Path) -> tuple[dict[str, torch.jit.ScriptModule], bytes]:
    """Both networks, and the licence's text."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        sys.exit(f"{path} has the SHA-256 {digest}; the wheel of deepbet 1.0.2 has {WHEEL_SHA256}.")
    with zipfile.ZipFile(path) as wheel:
        modules = {
            name: torch.jit.load(io.BytesIO(wheel.read(f"data/models/{name}.pt")), map_location="cpu").eval()
            for name in (BOX_NETWORK, BRAIN_NETWORK)
        }
        return modules, wheel.read("deepbet-1.0.2.dist-info/LICENSE")


def float_weights(module: torch.jit.ScriptModule) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in module.state_dict().items()}


def arrays(modules: dict[str, torch.jit.ScriptModule]) -> dict[str, np.ndarray]:
    """What the file holds: int8 weights with their scales, biases."""
    stored = {}
    for network, module in modules.items():
        for name, values in float_weights(module).items():
            key = f"{network}/{name}"
            if not name.endswith(".weight"):
                stored[key] = values.astype("<f4")
                continue
            # The second axis is the one of the output channels in transposed convolutions.
            others = tuple(axis for axis in range(5) if axis != (1 if "tp_conv" in name else 0))
            scale = (np.abs(values).max(axis=others, keepdims=True) / 127).astype("<f4")
            stored[key] = np.rint(values / scale).astype(np.int8)
            stored[f"{key}.scale"] = scale
    return stored


def write(stored: dict[str, np.ndarray], path: Path) -> None:
    """An .npz file whose bytes depend on nothing but the arrays."""
    with zipfile.ZipFile(path, "w") as file:

        def add(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            file.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)

        about = json.dumps(ABOUT, ensure_ascii=False, indent=1, sort_keys=True)
        add("about.json", about.encode())
        for name, values in sorted(stored.items()):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(values), version=(1, 0), allow_pickle=False)
            add(f"{name}.npy", buffer.getvalue())


def list_sum(path: Path) -> None:
    """Put the file's SHA-256 into SHA256SUMS beside it."""
    sums = path.parent / "SHA256SUMS"
    lines = {line.split()[1]: line for line in sums.read_text(encoding="utf-8").splitlines()}
    lines[path.name] = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
    sums.write_text("".join(f"{lines[name]}\n" for name in sorted(lines)), encoding="utf-8")


def deepbet_brain(modules: dict[str, torch.jit.ScriptModule], image: np.ndarray) -> np.ndarray:
    """The brain by deepbet's networks and steps in PyTorch, for an array whose axes lie along RAS."""

    def normalised(part: torch.Tensor) -> torch.Tensor:
        part = ((part - low) / (high - low)).clamp(min=0, max=1)
        return 0.226 * (part - part.mean()) / part.std() + 0.449

    def resized(part: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        return F.interpolate(part[None, None], shape, mode="nearest-exact")[0, 0]

    def largest(mask: np.ndarray) -> np.ndarray:
        labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
        return labels == 1 + np.bincount(labels.ravel())[1:].argmax()

    whole = torch.nan_to_num(torch.from_numpy(image.astype(np.float32)))
    small = resized(whole, (128, 128, 128))
    low, high = small.quantile(0.005), small.quantile(0.995)
    with torch.no_grad():
        found = modules[BOX_NETWORK](normalised(small)[None, None])[0, 1].numpy() > 0.5
    filled = torch.from_numpy(largest(found).astype(np.float32))
    rows = [torch.where(filled.mean(dims) > 0.02)[0] for dims in ((1, 2), (0, 2), (0, 1))]
    scale = torch.tensor(image.shape) / torch.tensor(filled.shape)
    centre = (scale * torch.tensor([(row.max() + 1 + row.min()) / 2 for row in rows])).round()
    size = (1.2 * scale * torch.tensor([row.max() + 1 - row.min() for row in rows])).round()
    box = tuple(
        slice(max(0, int(c - s / 2)), min(edge, int(c + s / 2))) for c, s, edge in zip(centre, size, image.shape)
    )
    with torch.no_grad():
        inside = modules[BRAIN_NETWORK](normalised(resized(whole[box], (256, 256, 256)))[None, None])[0, 1]
    mask = np.zeros(image.shape, bool)
    mask[box] = ndimage.binary_fill_holes(largest(resized(inside, whole[box].shape).numpy() > 0.5))
    return mask


def check(modules: dict[str, torch.jit.ScriptModule], paths: list[Path]) -> None:
    bundled = {name: load_network(name) for name in modules}
    exact = {name: BrainNetwork(float_weights(module)) for name, module in modules.items()}
    for path in paths:
        image = read_image_file(path, "t1").volume
        began = time.perf_counter()
        ours = brain.extract_brain(image, networks=bundled).array
        seconds = time.perf_counter() - began
        in_float = brain.extract_brain(image, networks=exact).array
        axes, flips = brain.closest_to_ras(image.grid)
        theirs = deepbet_brain(modules, np.ascontiguousarray(image.array.transpose(axes)[flips]))
        theirs = theirs[flips].transpose(np.argsort(axes))
        print(
            f"{path.name}: {seconds:.1f} s, {ours.sum() * image.grid.voxel_volume_ml:.0f} ml; Dice of int8 with "
            f"float32 {dice(ours, in_float):.5f}, with deepbet {dice(ours, theirs):.5f}; of float32 with deepbet "
            f"{dice(in_float, theirs):.6f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--check", type=Path, nargs="+", metavar="IMAGE", help="compare the brains of these heads")
    parser.add_argument("--out", type=Path, default=ROOT / "Resources" / "Models", help="folder (Resources/Models)")
    options = parser.parse_args()
    modules, licence = read_wheel(options.wheel)
    if options.check:
        check(modules, options.check)
        return
    write(arrays(modules), options.out / FILE)
    (options.out / LICENCE).write_bytes(licence)
    list_sum(options.out / FILE)
    print(f"{options.out / FILE}: {(options.out / FILE).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
