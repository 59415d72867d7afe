"""Unsupervised hashing: the nearest binary codes of a Bi-half network (paper, section 2.3)."""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from TumorQueryLib.base.compiled import njit
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies.autoencoder import LearnedStrategy
from TumorQueryLib.strategies.base import register_strategy


@register_strategy("bihash")
class BiHalfHash(LearnedStrategy):
    """Ranks by the distance of binary codes; see `LearnedStrategy` for the options.

    A bit is 1 where the unit lies above its median over the training set: so each bit
    halves that set, as the Bi-half layer makes it halve every batch in training.
    """

    name = "bihash"

    def encode(self, region: str, shares: NDArray[np.float32]) -> NDArray[np.uint64]:
        """Packed codes, uint64, shape (n, latent / 64): 128 bytes for 1,024 bits."""
        bits = self.model.encode(region, shares) > self.model.thresholds[region]
        return pack_bits(bits)

    def scores(self, masks: TumorMasks) -> NDArray[np.float64]:
        """-(L2 of the core + L2 of the whole tumour) of the codes as vectors of +1 and -1."""
        query = self.encode_query(masks)
        total = np.zeros(len(self.database))
        for name in ("core", "whole"):
            # Two codes differ by 2 in each bit that differs.
            total -= 2 * np.sqrt(hamming_distances(self.codes[name], query[name][0]))
        return total


def pack_bits(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Rows of bits (n, m) to words (n, ceil(m / 64)); missing bits are 0."""
    packed = np.packbits(bits, axis=1)
    padded = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
    return padded.view(np.uint64)


def hamming_distances(codes: NDArray[np.uint64], query: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Bits in which each code (N, words) differs from a query (words,), int64, shape (N,)."""
    distances = np.empty(len(codes), np.int64)
    _count_differing_bits(codes, query, distances)
    return distances


@intrinsic
def _popcount(typing_context, word):
    """Number of bits set in a uint64, by the processor's own instruction."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@njit(cache=True, nogil=True)
def _count_differing_bits(codes, query, distances):
    for n in range(codes.shape[0]):
        total = np.uint64(0)
        for word in range(query.size):
            total += _popcount(codes[n, word] ^ query[word])  # type: ignore[call-arg]
        distances[n] = total
