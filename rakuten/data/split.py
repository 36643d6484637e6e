"""Who is trained on, who is held out.

Test and calib follow from the salt and a product's own id alone, so they are the same for every seed, every row
order and every later version of the catalogue. A product that is held out nowhere but resembles one that is gets
dropped: it would be the test set's text in the training set. That holds pair by pair, so a row that arrives later can
take a training row out, and never move a held-out row in.

A rule on whole groups (the smallest id decides for all near-duplicates) would lose fewer rows and cannot keep the
promise: a later row with a smaller id would carry its group, test rows included, to the other side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from rakuten.config import SplitConfig
from rakuten.data.near_duplicates import find_near_duplicates

TEST: Final = "test"
CALIB: Final = "calib"
TRAIN: Final = "train"
VAL: Final = "val"
DROPPED: Final = "dropped"


@dataclass(frozen=True)
class Split:
    """Sides of N products, in their order.

    `side` holds test, calib, train or dropped: (N,) str. `group` numbers near-duplicates: (N,) int; products of one
    group are never on both sides of train and val.
    """

    side: NDArray[np.str_]
    group: NDArray[np.int64]


def split(productids: Sequence[str], texts: Sequence[str], config: SplitConfig) -> Split:
    """Sides and near-duplicate groups of products with these ids and cleaned texts (title and description)."""
    position = np.array([_hash_to_unit(f"{config.salt}:{productid}") for productid in productids])
    side = np.where(
        position < config.test, TEST, np.where(position < config.test + config.calib, CALIB, TRAIN)
    ).astype("<U7")
    duplicates = find_near_duplicates(texts, config.near_duplicate)
    # Test first: a calib product that resembles a test product would tune confidence on the test set.
    for held_out, giving_way in ((TEST, [CALIB, TRAIN]), (CALIB, [TRAIN])):
        side[duplicates.touching(side == held_out) & np.isin(side, giving_way)] = DROPPED
    return Split(side, duplicates.groups(productids))


def carve_val(
    labels: NDArray[np.int64], groups: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.bool_]:
    """Which of N training products validate: about `share` of each class, whole near-duplicate groups.

    Greedy, in an order drawn from `seed`: a group joins while the class of its first product is short. `labels` and
    `groups` are (N,) int; the answer is (N,) bool.
    """
    rng = np.random.default_rng(seed)
    wanted = np.bincount(labels, minlength=int(labels.max(initial=0)) + 1) * share
    is_val = np.zeros(len(labels), dtype=bool)
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(labels) else []
    for index in rng.permutation(len(members)):
        group = members[index]
        if wanted[labels[group[0]]] >= 0.5 * len(group):
            is_val[group] = True
            np.subtract.at(wanted, labels[group], 1)
    return is_val


def _hash_to_unit(key: str) -> float:
    return xxhash.xxh3_64_intdigest(key.encode()) / 2**64
