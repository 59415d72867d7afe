"""What the approximate strategies share: codes of a database in the user's cache, ranking, re-ranking.

A strategy of this kind turns every entry into a short code once, and a query into a
code of the same sort; it ranks by the codes. The codes lie in a side file in the
user's cache, named by the SHA-256 of the database and of what made them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.compiled import njit
from TumorQueryLib.base.errors import DatabaseError, OutputError
from TumorQueryLib.base.files import replaced_file
from TumorQueryLib.base.parallel import in_slices
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.base.resources import cache_folder
from TumorQueryLib.database.masks import batches
from TumorQueryLib.database.schema import read_attribute, write_attribute
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies.base import Match, check_query
from TumorQueryLib.strategies.exact import exact_dice

if TYPE_CHECKING:
    from TumorQueryLib.database import TumorDatabase

Codes = dict[str, NDArray[Any]]

EMBEDDING_SCHEMA = "tumorquery-embedding"
EMBEDDING_SCHEMA_VERSION = 1
#: Entries that are encoded at once.
BATCH = 256


class ApproximateStrategy(ABC):
    """A strategy that ranks by a score of its own; the matches' Dice are exact all the same.

    Parameters
    ----------
    database : TumorDatabase
    rerank : int
        Where positive, so many of the best by score are put in the order of their exact
        Dice sum before the best of them are returned.
    """

    name: str

    def __init__(self, database: TumorDatabase, *, rerank: int = 0) -> None:
        self.database = database
        self.rerank = rerank

    @abstractmethod
    def best(self, masks: TumorMasks, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The `count` entries of the highest scores and these, best first, ties to the lower entry."""

    def query(self, masks: TumorMasks, top: int = 15) -> list[Match]:
        """See `Strategy.query`; `Match.score` is the exact Dice sum where `rerank` is set."""
        check_query(masks, self.database, top)
        entries, ranked_by = self.best(masks, max(top, self.rerank))
        dice_core, dice_whole = exact_dice(self.database, masks, entries)
        if self.rerank:
            ranked_by = dice_core + dice_whole
            # Only the first `rerank` are in play: more than that are asked for only where top is larger.
            head = np.lexsort((entries[: self.rerank], -ranked_by[: self.rerank]))
            order = np.concatenate([head, np.arange(len(head), len(entries))])
            entries, dice_core, dice_whole, ranked_by = (
                values[order] for values in (entries, dice_core, dice_whole, ranked_by)
            )
        return [
            Match(int(entry), float(core), float(whole), float(score))
            for entry, core, whole, score in zip(entries[:top], dice_core, dice_whole, ranked_by)
        ]


class EmbeddedStrategy(ApproximateStrategy):
    """A strategy whose codes of the database are made once and kept in the user's cache.

    Parameters
    ----------
    database : TumorDatabase
    rerank : int
        See `ApproximateStrategy`.
    progress : Progress
        Reports the making of the codes where the cache does not hold them.
    """

    def __init__(self, database: TumorDatabase, *, rerank: int = 0, progress: Progress = no_progress) -> None:
        super().__init__(database, rerank=rerank)
        path = self.embedding_path()
        if not path.is_file():
            self.embed(progress=progress)
        self.codes = _read_codes(path, self._identity())

    @property
    @abstractmethod
    def model_sha256(self) -> str:
        """SHA-256 of what makes the codes: a model's file, or a definition."""

    @abstractmethod
    def scores(self, masks: TumorMasks) -> NDArray[np.float64]:
        """The score of every entry, float64, shape (N,); higher is better; -inf leaves an entry out."""

    def best(self, masks: TumorMasks, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """See `ApproximateStrategy.best`."""
        scores = self.scores(masks)
        entries = best_entries(scores, count)
        return entries, scores[entries]

    @abstractmethod
    def encode_entries(self, entries: NDArray[np.int64]) -> Codes:
        """Codes of the given entries, arrays of shape (n, ...) by name."""

    def embedding_path(self) -> Path:
        """Where the codes of this database lie in the user's cache."""
        name = f"{self.name}-{self.database.sha256[:16]}-{self.model_sha256[:16]}.h5"
        return cache_folder() / "embeddings" / name

    def embed(self, *, progress: Progress = no_progress) -> None:
        """Make the codes of every entry and write them to the cache, whole or not at all.

        Raises
        ------
        OutputError
            When the cache cannot be written.
        """
        path = self.embedding_path()
        count = len(self.database)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced_file(path) as aside, h5py.File(aside, "w", track_order=False) as file:
                for key, value in self._identity().items():
                    write_attribute(file, key, value)
                for entries in batches(count, BATCH):
                    progress(entries[0] / count, f"Codes of {self.name}: {entries[0]:,} of {count:,} tumours")
                    for name, codes in self.encode_entries(entries).items():
                        if name not in file:
                            file.create_dataset(name, (count, *codes.shape[1:]), codes.dtype)
                        file[name][entries[0] : entries[-1] + 1] = codes
        except OSError as error:
            raise OutputError(
                f"The codes of {self.name} cannot be written to {path.parent} ({error}); "
                "free space there, or name another cache folder in TUMORQUERY_CACHE."
            ) from error
        progress(1.0, f"Codes of {self.name}: {count:,} tumours")

    def _identity(self) -> dict[str, Any]:
        return {
            "schema": EMBEDDING_SCHEMA,
            "schema_version": EMBEDDING_SCHEMA_VERSION,
            "strategy": self.name,
            "database_sha256": self.database.sha256,
            "model_sha256": self.model_sha256,
        }


def best_entries(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Entries of the highest scores, best first, ties to the lower entry; entries of -inf left out."""
    count = min(count, len(scores))
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    entries = np.flatnonzero((scores >= threshold) & (scores > -np.inf))
    return entries[np.argsort(-scores[entries], kind="stable")[:count]]


def negative_distances(codes: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """-||codes[n] - query||_2 for every n, float64, shape (N,); codes (N, M) and query (M,) float32.

    Equal codes get equal distances to the last bit, which a matrix product would not give.
    """
    squared = np.empty(len(codes), np.float32)
    in_slices(lambda rows: _squared_distances(codes[rows], query, squared[rows]), len(codes))
    return -np.sqrt(squared.astype(np.float64))


@njit(cache=True, nogil=True, fastmath=True)
def _squared_distances(codes, query, squared):
    for n in range(codes.shape[0]):
        code = codes[n]
        total = np.float32(0)
        for m in range(query.size):
            difference = code[m] - query[m]
            total += difference * difference
        squared[n] = total


def _read_codes(path: Path, identity: dict[str, Any]) -> Codes:
    advice = f"delete it, and run `tumorquery embed` again: {path}"
    try:
        with h5py.File(path, "r") as file:
            for key, expected in identity.items():
                found = read_attribute(file, key)
                if found != expected:
                    raise DatabaseError(
                        f"The codes in the cache were made by another {key} than the one in use "
                        f"({found}, not {expected}); {advice}"
                    )
            return {name: file[name][()] for name in file}
    except OSError as error:
        raise DatabaseError(f"The codes in the cache cannot be read ({error}); {advice}") from error
