"""Training the networks of the learned strategies on a database (paper, section 2.4)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.files import replaced_file
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.database.schema import REGIONS
from TumorQueryLib.strategies.base import ARCHITECTURES, create_strategy, learned_strategies, strategy_info
from TumorQueryLib.strategies.embedding import EmbeddedStrategy
from TumorQueryLib.strategies.models import (
    database_traits,
    import_networks,
    save_encoders,
    trained_model_path,
)
from TumorQueryLib.strategies.pooling import Pooling

if TYPE_CHECKING:
    import torch

    from TumorQueryLib.database import RunLengthMasks, TumorDatabase

#: The paper's numbers of tumours for training and validation.
TRAINING_SIZE, VALIDATION_SIZE = 1500, 150
EPOCHS = 8
#: Epochs without a better validation loss after which training stops.
PATIENCE = 3
LEARNING_RATE = 2e-3
BATCH_SIZE = 16
#: The Bi-half layer halves each batch, so its batches are larger.
BI_HALF_BATCH_SIZE = 32


def train_strategy(
    database: TumorDatabase,
    strategy: str,
    *,
    architecture: str = ARCHITECTURES[0],
    epochs: int = EPOCHS,
    random_seed: int = 0,
    out: str | Path | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Train the two networks of a learned strategy, each in a thread of its own.

    After every epoch a checkpoint is written beside the result, so that an interrupted
    training with the same settings goes on where it was and ends as if it had not been
    interrupted.

    Parameters
    ----------
    database : TumorDatabase
        1,500 of its tumours, drawn at random, are learned from; 150 others tell when to
        stop: after three epochs without a lower loss. Fewer where the database is small.
    strategy : str
        One of `base.learned_strategies()`.
    architecture : {"pooled", "paper"}
        See `strategies.networks.Architecture`.
    epochs : int
        At most so many.
    random_seed : int
        Of the draw, the initial weights, the order of the batches and the VAE's noise.
    out : path, optional
        The model file (safetensors); by default in the user's cache, where
        `create_strategy` finds it.
    progress : Progress
        Told the epoch and both losses.

    Returns
    -------
    Path
        The model file.

    Raises
    ------
    InputError
        When there is no such learned strategy, or the database is too small.
    MissingDependencyError
        When PyTorch or safetensors are not installed.
    """
    _check_training(database, strategy, architecture, epochs)
    path = trained_model_path(database, strategy) if out is None else Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    trainings = _trainings(database, strategy, architecture, epochs, random_seed, path, stop)
    outcomes = _run_both(trainings, stop, progress)
    save_encoders(
        path,
        {
            **trainings["core"].settings,
            "losses": {region: outcome.losses for region, outcome in outcomes.items()},
            "licence": database.attributes["licence"],
            "attribution": database.attributes["attribution"],
        },
        {region: outcome.encoder for region, outcome in outcomes.items()},
        {region: outcome.medians for region, outcome in outcomes.items() if outcome.medians is not None},
    )
    for training in trainings.values():
        training.checkpoint.unlink(missing_ok=True)
    progress(1.0, f"Trained {strategy}")
    return path


def embed_database(database: TumorDatabase, strategy: str, *, progress: Progress = no_progress) -> Path:
    """Make a strategy's codes of a database in the user's cache, where they are missing.

    Parameters
    ----------
    database : TumorDatabase
    strategy : str
        A strategy that ranks by codes (`StrategyInfo.ranks_by_codes`).
    progress : Progress

    Returns
    -------
    Path
        The file of codes.

    Raises
    ------
    InputError
        When the strategy has no codes, or no model is trained.
    """
    if not strategy_info(strategy).ranks_by_codes:
        raise InputError(f"{strategy} compares the masks themselves; there is nothing to embed.")
    made = create_strategy(strategy, database, progress=progress)
    assert isinstance(made, EmbeddedStrategy)
    return made.embedding_path()


def _check_training(database: TumorDatabase, strategy: str, architecture: str, epochs: int) -> None:
    if strategy not in learned_strategies():
        raise InputError(f"{strategy} is not trained; strategies to train are {', '.join(learned_strategies())}.")
    if architecture not in ARCHITECTURES:
        raise InputError(f"There is no architecture {architecture!r}; there are {', '.join(ARCHITECTURES)}.")
    if epochs < 1:
        raise InputError(f"Training takes at least one epoch, not {epochs}.")
    least = 2 * _batch_size(strategy)
    if len(database) < least:
        raise InputError(
            f"{database.path} holds {len(database)} tumours; to train {strategy}, build a database of at least "
            f"{least}, better of {TRAINING_SIZE + VALIDATION_SIZE} or more."
        )


def _architecture(database: TumorDatabase, strategy: str, name: str) -> dict[str, Any]:
    networks = import_networks(strategy)
    if name == "paper":
        return networks.Architecture.of_the_paper(strategy, database.grid.shape).as_dict()
    pooling = Pooling.around(database.whole, 4, divisor=2)
    return networks.Architecture.pooled(strategy, pooling.start, pooling.shape).as_dict()


def _trainings(
    database: TumorDatabase,
    strategy: str,
    architecture: str,
    epochs: int,
    random_seed: int,
    path: Path,
    stop: threading.Event,
) -> dict[str, _Training]:
    """The trainings of both regions, with the same tumours and settings."""
    drawn = np.random.default_rng(random_seed).permutation(len(database))[: TRAINING_SIZE + VALIDATION_SIZE]
    held_out = max(1, len(drawn) * VALIDATION_SIZE // (TRAINING_SIZE + VALIDATION_SIZE))
    settings = {
        "strategy": strategy,
        "architecture": _architecture(database, strategy, architecture),
        **database_traits(database),
        "atlas_name": database.atlas_name,
        "database_sha256": database.sha256,
        "random_seed": random_seed,
        "epochs": epochs,
        "training_tumours": len(drawn) - held_out,
        "validation_tumours": held_out,
    }
    return {
        region: _Training(
            settings=settings,
            region=region,
            masks=getattr(database, region),
            training=drawn[held_out:],
            validation=drawn[:held_out],
            checkpoint=path.with_name(f"{path.name}.{region}.checkpoint"),
            stop=stop,
        )
        for region in REGIONS
    }


def _batch_size(strategy: str) -> int:
    return BI_HALF_BATCH_SIZE if strategy == "bihash" else BATCH_SIZE


@dataclass(frozen=True, eq=False)
class _Outcome:
    encoder: Any
    losses: list[list[float]]
    medians: NDArray[np.float32] | None


def _run_both(trainings: dict[str, _Training], stop: threading.Event, progress: Progress) -> dict[str, _Outcome]:
    """Run both trainings side by side; the caller's thread reports, and stops them when it is cancelled."""
    with ThreadPoolExecutor(len(trainings)) as pool:
        running: dict[str, Future[_Outcome]] = {region: pool.submit(t.run) for region, t in trainings.items()}
        try:
            pending = set(running.values())
            while pending:
                done, pending = wait(pending, timeout=0.2)
                for future in done:
                    future.result()
                share = sum(training.share_done for training in trainings.values()) / len(trainings)
                progress(0.99 * share, "; ".join(training.message for training in trainings.values()))
        finally:
            stop.set()
    return {region: future.result() for region, future in running.items()}


@dataclass(eq=False)
class _Training:
    """The training of one network."""

    settings: dict[str, Any]
    region: str
    masks: RunLengthMasks
    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    checkpoint: Path
    stop: threading.Event
    share_done: float = 0.0
    message: str = ""

    def run(self) -> _Outcome:
        """Train until the last epoch or until the validation loss no longer falls."""
        self._prepare()
        epochs = self.settings["epochs"]
        self.message = f"{self.region}: epoch {len(self._losses) + 1} of {epochs}"
        while len(self._losses) < epochs and not _no_longer_falls(self._losses):
            training_loss = self._train_epoch(len(self._losses))
            self._model.eval()
            validation_loss = self._validation_loss()
            # A loss over a part of the batches is none.
            if self.stop.is_set():
                break
            self._losses.append([training_loss, validation_loss])
            if validation_loss == min(loss for _, loss in self._losses):
                self._best = _copy_of_weights(self._model)
            self.message = (
                f"{self.region}: epoch {len(self._losses)} of {epochs}, "
                f"loss {training_loss:.4f}, validation {validation_loss:.4f}"
            )
            self._write_checkpoint(
                {
                    "settings": self._settings_text,
                    "model": self._model.state_dict(),
                    "optimizer": self._optimizer.state_dict(),
                    "schedule": self._schedule.state_dict(),
                    "losses": self._losses,
                    "best": self._best,
                }
            )
        self.share_done = 1.0
        self._model.load_state_dict(self._best)
        self._model.eval()
        medians = self._medians() if self.settings["strategy"] == "bihash" else None
        return _Outcome(self._model.encoder, self._losses, medians)

    def _prepare(self) -> None:
        """Make the network and what trains it, as they were at the last checkpoint."""
        import torch

        from TumorQueryLib.strategies.networks import Architecture, Autoencoder

        # Two networks train at once, and their operations are too small to be shared out.
        torch.set_num_threads(1)
        architecture = Architecture(**self.settings["architecture"])
        self._pooling = Pooling(architecture.pooling, architecture.start, architecture.shape)
        self._batch_size = _batch_size(self.settings["strategy"])
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with _SEEDING:
            torch.manual_seed(self.settings["random_seed"])
            self._model = Autoencoder(architecture)
        self._model.to(self._device)
        self._optimizer = torch.optim.Adam(self._model.parameters(), LEARNING_RATE)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            LEARNING_RATE,
            epochs=self.settings["epochs"],
            steps_per_epoch=-(-len(self.training) // self._batch_size),
            pct_start=0.1,
        )
        self._losses: list[list[float]] = []
        self._best = _copy_of_weights(self._model)
        saved = self._read_checkpoint()
        if saved is not None:
            self._model.load_state_dict(saved["model"])
            self._optimizer.load_state_dict(saved["optimizer"])
            self._schedule.load_state_dict(saved["schedule"])
            self._losses, self._best = saved["losses"], saved["best"]

    def _train_epoch(self, epoch: int) -> float:
        """One pass over the tumours to learn from, in an order of its own; its mean loss."""
        import torch

        self._model.train()
        seed = self.settings["random_seed"]
        order = np.random.default_rng([seed, epoch]).permutation(self.training)
        generator = torch.Generator(self._device).manual_seed(1000 * seed + epoch)
        total, seen = 0.0, 0
        for batch in self._batches(order):
            self._optimizer.zero_grad()
            loss = self._model.loss(self._masks(batch), generator)
            loss.backward()
            self._optimizer.step()
            self._schedule.step()
            total += float(loss.detach()) * len(batch)
            seen += len(batch)
            self.share_done = (epoch + seen / len(order)) / self.settings["epochs"]
        return total / len(order)

    @property
    def _settings_text(self) -> str:
        return json.dumps({**self.settings, "region": self.region}, sort_keys=True)

    def _masks(self, entries: NDArray[np.int64]) -> torch.Tensor:
        import torch

        return torch.from_numpy(self._pooling.shares(self.masks, entries))[:, None].to(self._device)

    def _batches(self, entries: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        for first in range(0, len(entries), self._batch_size):
            if self.stop.is_set():
                return
            yield entries[first : first + self._batch_size]

    def _validation_loss(self) -> float:
        import torch

        with torch.no_grad():
            total = sum(float(self._model.loss(self._masks(b))) * len(b) for b in self._batches(self.validation))
        return total / len(self.validation)

    def _medians(self) -> NDArray[np.float32]:
        import torch

        with torch.no_grad():
            codes = [self._model.encoder(self._masks(batch)).cpu().numpy() for batch in self._batches(self.training)]
        return np.median(np.concatenate(codes), axis=0).astype(np.float32)

    def _read_checkpoint(self) -> dict[str, Any] | None:
        import torch

        if not self.checkpoint.is_file():
            return None
        try:
            saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception:
            # A checkpoint that cannot be read is one that was not written; training starts anew.
            return None
        return saved if saved.get("settings") == self._settings_text else None

    def _write_checkpoint(self, state: dict[str, Any]) -> None:
        import torch

        with replaced_file(self.checkpoint) as aside:
            torch.save(state, aside)


#: PyTorch draws initial weights from one generator for all threads.
_SEEDING = threading.Lock()


def _copy_of_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _no_longer_falls(losses: list[list[float]]) -> bool:
    """Whether the last `PATIENCE` validation losses brought none lower than before."""
    validation = [loss for _, loss in losses]
    return len(validation) > PATIENCE and min(validation[-PATIENCE:]) >= min(validation[:-PATIENCE])
