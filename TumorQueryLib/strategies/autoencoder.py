"""Autoencoder and variational autoencoder: the nearest latent codes (paper, section 2.3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies.base import register_strategy
from TumorQueryLib.strategies.embedding import Codes, EmbeddedStrategy, negative_distances
from TumorQueryLib.strategies.models import find_model, load_encoders

if TYPE_CHECKING:
    from TumorQueryLib.database import TumorDatabase


class LearnedStrategy(EmbeddedStrategy):
    """A strategy whose codes come from trained networks, one for each region.

    Parameters
    ----------
    database : TumorDatabase
    model : path, optional
        A model file; by default the one trained on this database, else the bundled one.
    rerank : int
        Put so many of the best in the order of their exact Dice.
    progress : Progress
        Reports the making of the codes on first use.

    Raises
    ------
    InputError
        When there is no trained model, or it is of another atlas.
    MissingDependencyError
        When PyTorch or safetensors are not installed.
    """

    def __init__(
        self,
        database: TumorDatabase,
        *,
        model: Path | None = None,
        rerank: int = 0,
        progress: Progress = no_progress,
    ) -> None:
        self.model = load_encoders(find_model(database, self.name) if model is None else model, self.name)
        self.model.check(database, self.name)
        self._pooling = self.model.pooling
        super().__init__(database, rerank=rerank, progress=progress)

    @property
    def model_sha256(self) -> str:
        """SHA-256 of the model's file."""
        return self.model.sha256

    def encode_entries(self, entries: NDArray[np.int64]) -> Codes:
        """Codes `core` and `whole` of the given entries."""
        regions = (("core", self.database.core), ("whole", self.database.whole))
        return {name: self.encode(name, self._pooling.shares(masks, entries)) for name, masks in regions}

    def encode_query(self, masks: TumorMasks) -> Codes:
        """Codes `core` and `whole` of one query, each of shape (1, ...)."""
        regions = (("core", masks.core), ("whole", masks.whole))
        return {name: self.encode(name, self._pooling.shares_of(mask)[None]) for name, mask in regions}

    def encode(self, region: str, shares: NDArray[np.float32]) -> NDArray:
        """Codes of pooled masks of one region."""
        return self.model.encode(region, shares)


class _Autoencoder(LearnedStrategy):
    def scores(self, masks: TumorMasks) -> NDArray[np.float64]:
        """-(L2 of the core + L2 of the whole tumour) of the latent codes."""
        query = self.encode_query(masks)
        return sum(negative_distances(self.codes[name], query[name][0]) for name in ("core", "whole"))  # type: ignore


@register_strategy("ae")
class Autoencoder(_Autoencoder):
    """Ranks by the distance of an autoencoder's codes; see `LearnedStrategy` for the options."""

    name = "ae"


@register_strategy("vae")
class VariationalAutoencoder(_Autoencoder):
    """Ranks by the distance of a variational autoencoder's means; see `LearnedStrategy` for the options."""

    name = "vae"
