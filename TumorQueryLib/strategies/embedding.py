"""What the approximate strategies share: codes of a database in the user's cache, ranking, re-ranking.

A strategy of this kind turns every entry into a short code once, and a query into a
code of the same sort; it ranks by the codes. The codes lie in a side file in the
user's cache, named by the SHA-256 of the database and of what made them. The file begins
with a SHA-256 of its own: codes that are damaged are made again.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.compiled import njit
from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.base.files import parsed_json, replaced_file
from TumorQueryLib.base.parallel import in_slices
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.base.resources import cache_folder
from TumorQueryLib.database.masks import batches
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

    #: Whether every code has to be a finite number.
    finite = True

    def __init__(self, database: TumorDatabase, *, rerank: int = 0, progress: Progress = no_progress) -> None:
        super().__init__(database, rerank=rerank)
        path = self.embedding_path()
        codes = None
        if path.is_file():
            # One entry's codes show what those of all have to be.
            like = self.encode_entries(np.zeros(1, np.int64))
            codes = read_codes(path, self._identity(), like, len(database))
            if codes is None or not self._are_numbers(codes):
                codes = None
                progress(0.0, f"The codes of {self.name} in the cache are damaged and are made again")
        self.codes = self.embed(progress=progress) if codes is None else codes

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
        if not np.isfinite(scores).any():
            raise self._no_numbers()
        entries = best_entries(scores, count)
        return entries, scores[entries]

    @abstractmethod
    def encode_entries(self, entries: NDArray[np.int64]) -> Codes:
        """Codes of the given entries, arrays of shape (n, ...) by name."""

    def embedding_path(self) -> Path:
        """Where the codes of this database lie in the user's cache."""
        name = f"{self.name}-{self.database.sha256[:16]}-{self.model_sha256[:16]}.codes"
        return cache_folder() / "embeddings" / name

    def embed(self, *, progress: Progress = no_progress) -> Codes:
        """Make the codes of every entry and write them to the cache, whole or not at all.

        Raises
        ------
        InputError
            When the codes are not finite numbers.
        OutputError
            When the cache cannot be written.
        """
        path = self.embedding_path()
        count = len(self.database)
        codes: Codes = {}
        for entries in batches(count, BATCH):
            progress(entries[0] / count, f"Codes of {self.name}: {entries[0]:,} of {count:,} tumours")
            for name, values in self.encode_entries(entries).items():
                if name not in codes:
                    codes[name] = np.empty((count, *values.shape[1:]), values.dtype)
                codes[name][entries] = values
            if not self._are_numbers(codes, entries):
                raise self._no_numbers()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced_file(path) as aside:
                write_codes(aside, self._identity(), codes)
        except OSError as error:
            raise OutputError(
                f"The codes of {self.name} cannot be written to {path.parent} ({error}); "
                "free space there, or name another cache folder in TUMORQUERY_CACHE."
            ) from error
        progress(1.0, f"Codes of {self.name}: {count:,} tumours")
        return codes

    def _are_numbers(self, codes: Codes, entries: Any = slice(None)) -> bool:
        """Whether codes can be compared; of a strategy whose codes may be no numbers, they are."""
        return not self.finite or all(
            bool(np.isfinite(values[entries]).all()) for values in codes.values() if values.dtype.kind == "f"
        )

    def _no_numbers(self) -> InputError:
        return InputError(
            f"The codes that {self.name} makes are not finite numbers, so nothing can be ranked by them; use another "
            "model or strategy."
        )

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


def write_codes(path: Path, identity: Mapping[str, Any], codes: Codes) -> None:
    """Write codes: the SHA-256 of all that follows, a line of JSON that describes them, and their bytes.

    Raises
    ------
    OSError
        When the file cannot be written.
    """
    arrays = {name: np.ascontiguousarray(values) for name, values in codes.items()}
    described = [[name, values.dtype.str, list(values.shape)] for name, values in arrays.items()]
    line = json.dumps({"identity": identity, "arrays": described}, sort_keys=True).encode()
    # Filled up, so that the arrays lie where the processor reads them fastest.
    header = line + b" " * (-(len(line) + 33) % 64) + b"\n"
    digest = hashlib.sha256(header)
    for values in arrays.values():
        digest.update(values.data.cast("B"))
    with open(path, "wb") as file:
        file.write(digest.digest() + header)
        for values in arrays.values():
            file.write(values.data.cast("B"))


def read_codes(path: Path, identity: Mapping[str, Any], like: Codes, count: int) -> Codes | None:
    """Codes that `write_codes` wrote; None where they are damaged or of another identity.

    Parameters
    ----------
    path : Path
    identity : mapping
    like : dict
        The codes of one entry: of these names, types and shapes the arrays have to be.
    count : int
        Number of entries.
    """
    size = sum(values[:1].nbytes for values in like.values()) * count
    expected = [[name, values.dtype.str, [count, *values.shape[1:]]] for name, values in like.items()]
    try:
        # Nothing larger is read; the header is short.
        if not size < path.stat().st_size < size + 2**16:
            return None
        content = np.fromfile(path, np.uint8)
        if content[:32].tobytes() != hashlib.sha256(content[32:].data).digest():
            return None
        start = len(content) - size
        header = parsed_json(content[32:start].tobytes())
    except (OSError, ValueError):
        return None
    if header != {"identity": dict(identity), "arrays": expected}:
        return None
    codes = {}
    for name, values in like.items():
        stop = start + count * values[:1].nbytes
        codes[name] = content[start:stop].view(values.dtype).reshape(count, *values.shape[1:])
        start = stop
    return codes
