"""Training the networks of the learned strategies on a database (paper, section 2.4)."""

from __future__ import annotations

import json
import threading
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
from TumorQueryLib.strategies import create_strategy
from TumorQueryLib.strategies.models import (
    database_traits,
    import_networks,
    save_encoders,
    trained_model_path,
)
from TumorQueryLib.strategies.pooling import Pooling

if TYPE_CHECKING:
    from TumorQueryLib.database import RunLengthMasks, TumorDatabase

LEARNED_STRATEGIES = ("ae", "vae", "bihash")
ARCHITECTURES = ("pooled", "paper")
#: The paper's numbers of tumours for training and validation.
TRAINING_SIZE, VALIDATION_SIZE = 1500, 150
EPOCHS = 8
#: Epochs without a better validation loss after which training stops.
PATIENCE = 3
LEARNING_RATE = 2e-3
#: The Bi-half layer halves each batch, so its batches are larger.
BATCH_SIZE = {"ae": 16, "vae": 16, "bihash": 32}


def train_strategy(
    database: TumorDatabase,
    strategy: str,
    *,
    out: str | Path | None = None,
    random_seed: int = 0,
    epochs: int | None = None,
    resume: bool = True,
    architecture: str = "pooled",
    rank: int | None = 128,
    progress: Progress = no_progress,
) -> Path:
    """Train the two networks of a learned strategy, each in a thread of its own.

    After every epoch a checkpoint is written beside the result, so that an interrupted
    training goes on where it was and ends as if it had not been interrupted.

    Parameters
    ----------
    database : TumorDatabase
        1,500 of its tumours, drawn at random, are learned from; 150 others tell when to
        stop: after three epochs without a lower loss. Fewer where the database is small.
    strategy : {"ae", "vae", "bihash"}
    out : path, optional
        The model file (safetensors); by default in the user's cache, where
        `create_strategy` finds it.
    random_seed : int
        Of the draw, the initial weights, the order of the batches and the VAE's noise.
    epochs : int, optional
        At most so many; 8 by default.
    resume : bool
        Go on from the checkpoints of an interrupted training with the same settings.
    architecture : {"pooled", "paper"}
        See `strategies.networks.Architecture`.
    rank : int or None
        Width between the linear layers of the pooled architecture; None for one full
        layer. The paper's architecture always has full layers.
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
    if strategy not in LEARNED_STRATEGIES:
        raise InputError(f"{strategy} is not trained; strategies to train are {', '.join(LEARNED_STRATEGIES)}.")
    if architecture not in ARCHITECTURES:
        raise InputError(f"There is no architecture {architecture!r}; there are {', '.join(ARCHITECTURES)}.")
    epochs = EPOCHS if epochs is None else epochs
    if epochs < 1:
        raise InputError(f"Training takes at least one epoch, not {epochs}.")
    if len(database) < 2 * BATCH_SIZE[strategy]:
        raise InputError(
            f"{database.path} holds {len(database)} tumours; to train {strategy}, build a database of at least "
            f"{2 * BATCH_SIZE[strategy]}, better of {TRAINING_SIZE + VALIDATION_SIZE} or more."
        )
    networks = import_networks(strategy)
    if architecture == "paper":
        network = networks.Architecture.of_the_paper(strategy, database.grid.shape)
    else:
        pooling = Pooling.around(database.whole, 4, divisor=2)
        network = networks.Architecture.pooled(strategy, pooling.start, pooling.shape, rank=rank)
    path = trained_model_path(database, strategy) if out is None else Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = np.random.default_rng(random_seed).permutation(len(database))[: TRAINING_SIZE + VALIDATION_SIZE]
    held_out = max(1, len(drawn) * VALIDATION_SIZE // (TRAINING_SIZE + VALIDATION_SIZE))
    settings = {
        "strategy": strategy,
        "architecture": network.as_dict(),
        **database_traits(database),
        "atlas_name": database.atlas_name,
        "database_sha256": database.sha256,
        "seed": random_seed,
        "epochs": epochs,
        "training_tumours": len(drawn) - held_out,
        "validation_tumours": held_out,
    }
    trainings = {
        region: _Training(
            settings=settings,
            region=region,
            masks=getattr(database, region),
            training=drawn[held_out:],
            validation=drawn[:held_out],
            checkpoint=path.with_name(f"{path.name}.{region}.checkpoint"),
            resume=resume,
            stop=threading.Event(),
        )
        for region in REGIONS
    }
    outcomes = _run_both(trainings, progress)
    save_encoders(
        path,
        {
            **settings,
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


def embed_database(database: TumorDatabase, strategy: str, progress: Progress = no_progress) -> Path:
    """Make a strategy's codes of a database in the user's cache, where they are missing.

    Parameters
    ----------
    database : TumorDatabase
    strategy : str
        A strategy that ranks by codes: `ae`, `vae`, `bihash`, `radiomics` or
        `random-projection`.
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
    from TumorQueryLib.strategies.embedding import EmbeddedStrategy

    if strategy in ("direct", "brute-force", "ds64", "ds32"):
        raise InputError(f"{strategy} compares the masks themselves; there is nothing to embed.")
    made = create_strategy(strategy, database, progress=progress)
    if not isinstance(made, EmbeddedStrategy):
        raise InputError(f"{strategy} has no codes to embed.")
    return made.embedding_path()


@dataclass(frozen=True, eq=False)
class _Outcome:
    encoder: Any
    losses: list[list[float]]
    medians: NDArray[np.float32] | None


def _run_both(trainings: dict[str, _Training], progress: Progress) -> dict[str, _Outcome]:
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
            for training in trainings.values():
                training.stop.set()
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
    resume: bool
    stop: threading.Event
    share_done: float = 0.0
    message: str = ""

    def run(self) -> _Outcome:
        """Train until the last epoch or until the validation loss no longer falls."""
        import torch

        from TumorQueryLib.strategies.networks import Architecture, Autoencoder

        # Two networks train at once, and their operations are too small to be shared out.
        torch.set_num_threads(1)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        architecture = Architecture(**self.settings["architecture"])
        self._pooling = Pooling(architecture.pooling, architecture.start, architecture.shape)
        self._batch_size = BATCH_SIZE[self.settings["strategy"]]
        self._device = device
        seed, epochs = self.settings["seed"], self.settings["epochs"]
        with _SEEDING:
            torch.manual_seed(seed)
            model = Autoencoder(architecture)
        model.to(device)
        optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
        steps = -(-len(self.training) // self._batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LEARNING_RATE, epochs=epochs, steps_per_epoch=steps, pct_start=0.1
        )
        losses: list[list[float]] = []
        best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        saved = self._read_checkpoint()
        if saved is not None:
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            losses, best = saved["losses"], saved["best"]
        self.message = f"{self.region}: epoch {len(losses) + 1} of {epochs}"
        while len(losses) < epochs and not _no_longer_falls(losses):
            epoch = len(losses)
            model.train()
            order = np.random.default_rng([seed, epoch]).permutation(self.training)
            generator = torch.Generator(device).manual_seed(1000 * seed + epoch)
            total = 0.0
            for step, first in enumerate(range(0, len(order), self._batch_size)):
                if self.stop.is_set():
                    break
                batch = order[first : first + self._batch_size]
                optimizer.zero_grad()
                loss = model.loss(self._masks(batch), generator)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += float(loss.detach()) * len(batch)
                self.share_done = (epoch + (step + 1) / steps) / epochs
            if self.stop.is_set():
                break
            model.eval()
            validation_loss = self._validation_loss(model)
            if self.stop.is_set():
                break
            losses.append([total / len(order), validation_loss])
            if losses[-1][1] == min(loss for _, loss in losses):
                best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            self.message = (
                f"{self.region}: epoch {epoch + 1} of {epochs}, "
                f"loss {losses[-1][0]:.4f}, validation {losses[-1][1]:.4f}"
            )
            self._write_checkpoint(
                {
                    "settings": self._settings_text,
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "losses": losses,
                    "best": best,
                }
            )
        self.share_done = 1.0
        model.load_state_dict(best)
        model.eval()
        medians = self._medians(model) if architecture.kind == "bihash" else None
        return _Outcome(model.encoder, losses, medians)

    @property
    def _settings_text(self) -> str:
        return json.dumps({**self.settings, "region": self.region}, sort_keys=True)

    def _masks(self, entries: NDArray[np.int64]):
        import torch

        return torch.from_numpy(self._pooling.shares(self.masks, entries))[:, None].to(self._device)

    def _batches(self, entries: NDArray[np.int64]):
        for first in range(0, len(entries), self._batch_size):
            if self.stop.is_set():
                return
            yield entries[first : first + self._batch_size]

    def _validation_loss(self, model) -> float:
        import torch

        with torch.no_grad():
            return sum(float(model.loss(self._masks(b))) * len(b) for b in self._batches(self.validation)) / len(
                self.validation
            )

    def _medians(self, model) -> NDArray[np.float32]:
        import torch

        with torch.no_grad():
            codes = [model.encoder(self._masks(batch)).cpu().numpy() for batch in self._batches(self.training)]
        return np.median(np.concatenate(codes), axis=0).astype(np.float32)

    def _read_checkpoint(self) -> dict[str, Any] | None:
        import torch

        if not self.resume or not self.checkpoint.is_file():
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


def _no_longer_falls(losses: list[list[float]]) -> bool:
    """Whether the last `PATIENCE` validation losses brought none lower than before."""
    validation = [loss for _, loss in losses]
    return len(validation) > PATIENCE and min(validation[-PATIENCE:]) >= min(validation[:-PATIENCE])
