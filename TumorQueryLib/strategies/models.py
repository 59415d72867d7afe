"""Trained encoders in files: safetensors with the configuration and the data's hash inside."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.base.files import parsed_json, replaced_file
from TumorQueryLib.base.resources import SUMS_FILE, cache_folder, listed_sums, resources_folder
from TumorQueryLib.database.schema import REGIONS
from TumorQueryLib.strategies.base import require_packages
from TumorQueryLib.strategies.pooling import Pooling

if TYPE_CHECKING:
    import torch

    from TumorQueryLib.database import TumorDatabase

MODEL_SCHEMA = "tumorquery-model"
MODEL_SCHEMA_VERSION = 1


def import_networks(strategy: str) -> ModuleType:
    """The module `networks`, which needs PyTorch and safetensors.

    Raises
    ------
    MissingDependencyError
        Naming the package and how to get it.
    """
    require_packages(strategy)
    return importlib.import_module("TumorQueryLib.strategies.networks")


@dataclass(frozen=True, eq=False)
class TrainedEncoders:
    """The encoders of both regions, as they were trained.

    Parameters
    ----------
    path : Path
    sha256 : str
        Of the file's bytes.
    description : dict
        What the file says of itself: strategy, architecture, atlas, training.
    encoders : dict
        A torch module for "core" and for "whole".
    thresholds : dict
        Of a hash, per region the value of each unit above which its bit is 1,
        float32, shape (latent,); else empty.
    """

    path: Path
    sha256: str
    description: dict[str, Any]
    encoders: dict[str, Any]
    thresholds: dict[str, NDArray[np.float32]]

    @property
    def pooling(self) -> Pooling:
        """How masks are averaged before the network."""
        architecture = self.description["architecture"]
        return Pooling(architecture["pooling"], tuple(architecture["start"]), tuple(architecture["shape"]))

    def encode(self, region: str, shares: NDArray[np.float32]) -> NDArray[np.float32]:
        """Codes of pooled masks (n, *shape) in [0, 1]: float32, shape (n, latent)."""
        import torch

        threads = torch.get_num_threads()
        # The operations are too small to be shared out; waiting for each other costs more.
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                return self.encoders[region](torch.from_numpy(shares)[:, None]).numpy()
        finally:
            torch.set_num_threads(threads)

    def check(self, database: TumorDatabase, strategy: str) -> None:
        """Refuse a model of another strategy, atlas or threshold than the database's.

        Raises
        ------
        InputError
        """
        expected = {"strategy": strategy, **database_traits(database)}
        different = [name for name, value in expected.items() if self.description.get(name) != value]
        if different:
            raise InputError(
                f"The model {self.path} was trained for another {', '.join(different)} than this database and strategy "
                f"have; train one with `tumorquery train {database.path} --strategy {strategy}`."
            )


def database_traits(database: TumorDatabase) -> dict[str, Any]:
    """What a model and a database have to have in common."""
    return {
        "atlas_sha256": database.atlas_sha256,
        "threshold_t1gd": database.threshold_core,
        "threshold_flair": database.threshold_whole,
    }


def trained_model_path(database: TumorDatabase, strategy: str) -> Path:
    """Where `train` puts a model by default: the user's cache."""
    return cache_folder() / "models" / f"{strategy}-{database.sha256[:16]}.safetensors"


def find_model(database: TumorDatabase, strategy: str) -> Path:
    """The model trained on this database, else the bundled one of its atlas.

    Raises
    ------
    InputError
        When there is neither; says how to train one.
    """
    trained = trained_model_path(database, strategy)
    for path in (trained, resources_folder() / "Models" / f"{database.atlas_name}-{strategy}.safetensors"):
        if path.is_file():
            return path
    raise InputError(
        f"There is no trained model of the strategy {strategy} for this database; train one in a few minutes with "
        f"`tumorquery train {database.path} --strategy {strategy}`."
    )


def save_encoders(
    path: Path,
    description: dict[str, Any],
    encoders: dict[str, Any],
    thresholds: dict[str, NDArray[np.float32]],
) -> None:
    """Write encoders to a file in half precision, whole or not at all.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {}
    for region, encoder in encoders.items():
        for name, tensor in encoder.state_dict().items():
            # The variance serves the training only.
            if not name.startswith("to_log_variance"):
                tensors[f"{region}.{name}"] = tensor.detach().cpu().half().contiguous()
    for region, values in thresholds.items():
        tensors[f"{region}.threshold"] = torch.from_numpy(values).half()
    described = {"schema": MODEL_SCHEMA, "schema_version": MODEL_SCHEMA_VERSION, **description}
    described["content_sha256"] = content_sum(described, tensors)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as aside:
            save_file(tensors, aside, metadata={"tumorquery": json.dumps(described, sort_keys=True)})
    except OSError as error:
        raise OutputError(f"The model cannot be written to {path} ({error}); name another file.") from error


def content_sum(description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of a model's description (but for the sum itself) and tensors, so that damage is noticed."""
    described = {name: value for name, value in description.items() if name != "content_sha256"}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tensors):
        values = tensors[name].numpy()
        digest.update(f"{name} {values.dtype.str} {values.shape} ".encode() + values.tobytes())
    return digest.hexdigest()


def bundled_sum(path: Path) -> str | None:
    """SHA-256 that the file SHA256SUMS beside a model lists for it: the bundled models hold no sum of their own.

    Raises
    ------
    InputError
        When that list is damaged or cannot be read.
    """
    try:
        return listed_sums(path.parent).get(path.name)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be checked, since {SUMS_FILE} beside it cannot be read ({error}); install TumorQuery again."
        ) from error


def load_encoders(path: Path, strategy: str) -> TrainedEncoders:
    """Read a model file.

    Raises
    ------
    InputError
        When it is no such file, or damaged.
    MissingDependencyError
        When PyTorch or safetensors are not installed.
    """
    networks = import_networks(strategy)
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            description = parsed_json((file.metadata() or {})["tumorquery"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if (description["schema"], description["schema_version"]) != (MODEL_SCHEMA, MODEL_SCHEMA_VERSION):
            raise ValueError(f"schema {description['schema']} version {description['schema_version']}")
        if any(tensor.dtype != torch.float16 for tensor in tensors.values()):
            raise ValueError("its numbers are not in half precision")
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError("its numbers are not finite")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        recorded = description.pop("content_sha256", None)
        intact = sha256 == bundled_sum(path) if recorded is None else recorded == content_sum(description, tensors)
        if not intact:
            raise ValueError("its content does not have the SHA-256 that it was written with")
        tensors = {name: tensor.float() for name, tensor in tensors.items()}
        architecture = networks.Architecture(**description["architecture"])
        encoders = {region: _encoder(networks, architecture, region, tensors) for region in REGIONS}
        thresholds = {
            region: tensors[f"{region}.threshold"].numpy() for region in REGIONS if f"{region}.threshold" in tensors
        }
        of_a_hash = len(REGIONS) if architecture.kind == "bihash" else 0
        if len(thresholds) != of_a_hash or any(one.shape != (architecture.latent,) for one in thresholds.values()):
            raise ValueError("its thresholds do not fit its codes")
        if architecture.kind != description["strategy"]:
            raise ValueError(f"a network of kind {architecture.kind} for the strategy {description['strategy']}")
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} is not a model of this software, or is damaged ({reason}); train it again."
        ) from error
    return TrainedEncoders(path, sha256, description, encoders, thresholds)


def _encoder(networks: ModuleType, architecture: Any, region: str, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The encoder of one region; it takes the tensors' memory and none that only its description asks for."""
    import torch

    with torch.device("meta"):
        encoder = networks.Encoder(architecture)
    encoder.to_log_variance = None
    prefix = f"{region}."
    weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    weights.pop("threshold", None)
    encoder.load_state_dict(weights, assign=True)
    return encoder.eval()
