"""A random projection compared by soft Dice: the untrained baseline that a network has to beat.

Masks are averaged over 4^3 voxels and multiplied by a matrix of random signs, which
keeps scalar products on average (Achlioptas, Journal of Computer and System Sciences
2003); Dice needs nothing but scalar products.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.compiled import njit
from TumorQueryLib.base.parallel import in_slices
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies.base import register_strategy
from TumorQueryLib.strategies.embedding import Codes, EmbeddedStrategy
from TumorQueryLib.strategies.pooling import Pooling

if TYPE_CHECKING:
    from TumorQueryLib.database import RunLengthMasks, TumorDatabase

CODE_SIZE = 1024
POOLING_FACTOR = 4
RANDOM_SEED = 0
# Powers of two, so that codes are sums of integers to the last bit.
_SCALE = np.float32(1 / (POOLING_FACTOR**3 * np.sqrt(CODE_SIZE)))


@register_strategy("random-projection")
class RandomProjection(EmbeddedStrategy):
    """Ranks by soft Dice, 2 a.b / (a.a + b.b), of random projections of both masks, added.

    Parameters
    ----------
    database : TumorDatabase
    rerank : int
        Put so many of the best in the order of their exact Dice.
    progress : Progress
        Reports the making of the codes on first use.
    """

    name = "random-projection"

    def __init__(self, database: TumorDatabase, *, rerank: int = 0, progress: Progress = no_progress) -> None:
        cells = [-(-n // POOLING_FACTOR) for n in database.grid.shape]
        self.pooling = Pooling(POOLING_FACTOR, (0, 0, 0), (cells[0], cells[1], cells[2]))
        super().__init__(database, rerank=rerank, progress=progress)
        self._squares = {name: np.einsum("nm,nm->n", codes, codes) for name, codes in self.codes.items()}

    @property
    def model_sha256(self) -> str:
        """SHA-256 of the projection's definition."""
        definition = {"pooling": POOLING_FACTOR, "cells": self.pooling.shape, "size": CODE_SIZE, "seed": RANDOM_SEED}
        return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _signs(self) -> NDArray[np.int8]:
        # The raw stream of a bit generator is the same in every release of NumPy.
        words = np.random.PCG64(RANDOM_SEED).random_raw(self.pooling.size * CODE_SIZE // 64)
        bits = np.unpackbits(words.astype("<u8").view(np.uint8)).reshape(self.pooling.size, CODE_SIZE)
        return (2 * bits.astype(np.int8) - 1).astype(np.int8)

    def encode_entries(self, entries: NDArray[np.int64]) -> Codes:
        """Codes `core` and `whole`, float32, shape (n, 1024)."""
        return {name: self._encode(masks, entries) for name, masks in self._regions()}

    def scores(self, masks: TumorMasks) -> NDArray[np.float64]:
        """Soft Dice of core and whole tumour, added; about 0 to 2."""
        total = np.zeros(len(self.database))
        for name, mask in (("core", masks.core), ("whole", masks.whole)):
            counts = np.rint(self.pooling.shares_of(mask) * POOLING_FACTOR**3).astype(np.uint8)
            total += soft_dice(self.codes[name], self._squares[name], self._project(counts[None])[0])
        return total

    def _regions(self) -> tuple[tuple[str, RunLengthMasks], tuple[str, RunLengthMasks]]:
        return ("core", self.database.core), ("whole", self.database.whole)

    def _encode(self, masks: RunLengthMasks, entries: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._project(self.pooling.counts(masks, entries))

    def _project(self, counts: NDArray[np.uint8]) -> NDArray[np.float32]:
        projected = np.zeros((len(counts), CODE_SIZE), np.int32)
        _add_signed_rows(counts.reshape(len(counts), -1), self._signs, projected)
        return projected.astype(np.float32) * _SCALE


def soft_dice(
    codes: NDArray[np.float32], squares: NDArray[np.float32], query: NDArray[np.float32]
) -> NDArray[np.float64]:
    """2 a.b / (a.a + b.b) of every code a (N, M) with a query b (M,); 1 where both are 0.

    `squares` is a.a, shape (N,).
    """
    products = np.empty(len(codes), np.float32)
    in_slices(lambda rows: _products(codes[rows], query, products[rows]), len(codes))
    total = squares.astype(np.float64) + float(query @ query)
    return np.where(total == 0, 1.0, 2.0 * products / np.where(total == 0, 1.0, total))


@njit(cache=True, nogil=True, fastmath=True)
def _products(codes, query, products):
    for n in range(codes.shape[0]):
        code = codes[n]
        total = np.float32(0)
        for m in range(query.size):
            total += code[m] * query[m]
        products[n] = total


@njit(cache=True, nogil=True)
def _add_signed_rows(counts, signs, projected):
    for n in range(counts.shape[0]):
        total = projected[n]
        for cell in range(counts.shape[1]):
            count = np.int32(counts[n, cell])
            if count:
                row = signs[cell]
                for m in range(row.size):
                    total[m] += count * np.int32(row[m])
