"""Pairs of products whose texts say almost the same.

Whether two texts are near-duplicates depends on these two alone, never on the rest of the catalogue, so that adding
rows cannot undo a pair. MinHash (Broder, 1997) with locality-sensitive hashing proposes pairs, the exact Jaccard
similarity of their shingles decides.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import xxhash
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SHINGLE_CHARS = 5
MAX_CHARS = 1_000  # of a text; bounds the work, and what differs only after a thousand characters is a copy
NUM_BANDS, ROWS_PER_BAND = 16, 4  # a pair at Jaccard 0.8 is missed with probability (1 - 0.8**4)**16 = 0.0002
_WORD = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class NearDuplicates:
    """A graph: `node` (N,) int is each row's distinct text, `pairs` (P, 2) int are the nodes that resemble each other.

    Rows with one folded text share a node, so that ten thousand copies cost one node and not fifty million pairs. A
    row without text is a node of its own.
    """

    node: NDArray[np.int64]
    pairs: NDArray[np.int64]

    def touching(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(N,) bool: rows that share a node with one of `rows`, or resemble one."""
        marked = np.zeros(int(self.node.max(initial=-1)) + 1, dtype=bool)
        marked[self.node[rows]] = True
        near = marked.copy()
        near[self.pairs[marked[self.pairs[:, 0]], 1]] = True
        near[self.pairs[marked[self.pairs[:, 1]], 0]] = True
        return near[self.node]

    def groups(self, same: Sequence[str]) -> NDArray[np.int64]:
        """(N,) number of each row's connected component, where rows with equal `same` count as linked too."""
        first: dict[str, int] = {}
        linked = [(self.node[first.setdefault(key, row)], self.node[row]) for row, key in enumerate(same)]
        edges = np.concatenate([self.pairs, np.array(linked, dtype=np.int64).reshape(-1, 2)])
        size = int(self.node.max(initial=-1)) + 1
        graph = coo_array((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(size, size))
        return connected_components(graph, directed=False)[1].astype(np.int64)[self.node]  # type: ignore[no-any-return]


def find_near_duplicates(texts: Sequence[str], threshold: float) -> NearDuplicates:
    """The graph of texts whose shingles have Jaccard similarity >= `threshold`."""
    keys = [_fold(text) or f"\0{row}" for row, text in enumerate(texts)]
    distinct = {key: node for node, key in enumerate(sorted(set(keys)))}
    shingles = [_shingles(key) for key in distinct]
    pairs = [(i, j) for i, j in _candidates(shingles) if _jaccard(shingles[i], shingles[j]) >= threshold]
    return NearDuplicates(
        node=np.array([distinct[key] for key in keys], dtype=np.int64),
        pairs=np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2),
    )


def _fold(text: str) -> str:
    """Lower case, no accents, words apart by one space: the challenge shows the same text in several forms."""
    plain = unicodedata.normalize("NFKD", text[: 2 * MAX_CHARS].lower()).encode("ascii", "ignore").decode()
    return _WORD.sub(" ", plain).strip()[:MAX_CHARS] or text.strip()[:MAX_CHARS]


def _shingles(key: str) -> NDArray[np.uint64]:
    """(S,) sorted distinct hashes of the text's character shingles; none for a row without text."""
    if key.startswith("\0"):
        return np.empty(0, dtype=np.uint64)
    data = f" {key} ".encode(errors="replace")
    grams = {data[i : i + SHINGLE_CHARS] for i in range(max(1, len(data) - SHINGLE_CHARS + 1))}
    return np.sort(np.fromiter(map(xxhash.xxh3_64_intdigest, grams), dtype=np.uint64, count=len(grams)))


def _candidates(shingles: Sequence[NDArray[np.uint64]]) -> set[tuple[int, int]]:
    rng = np.random.default_rng(20200713)  # fixed: the relation must not change between runs
    num_hashes = NUM_BANDS * ROWS_PER_BAND
    multipliers = rng.integers(1, 2**63, num_hashes, dtype=np.uint64) | np.uint64(1)
    offsets = rng.integers(0, 2**63, num_hashes, dtype=np.uint64)
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for row, grams in enumerate(shingles):
        if not len(grams):
            continue
        # Multiply-shift hashing (Dietzfelbinger, 1997); the high half is the well mixed one.
        signature = ((grams[:, None] * multipliers + offsets) >> np.uint64(32)).min(axis=0).astype(np.uint32)
        for band, values in enumerate(signature.reshape(NUM_BANDS, ROWS_PER_BAND)):
            buckets.setdefault((band, values.tobytes()), []).append(row)
    return {pair for rows in buckets.values() if len(rows) > 1 for pair in combinations(rows, 2)}


def _jaccard(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)
