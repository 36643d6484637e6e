"""Which held-out products a bundle keeps as its canary set."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from rakuten.data.features import Features
from rakuten.data.preprocess import Example

NUM_PRODUCTS: Final = 32
LIMIT_BYTES: Final = 4 * 2**20  # of their photos
_HIDDEN: Final = (
    None,
    "image",
    "text",
    None,
)  # in turn: a catalogue may have every photo, and a model must do without


def canary_examples(features: Features, rows: NDArray[np.int64], seed: int) -> list[Example]:
    """Products of `rows`, drawn by `seed`: as they are, without photo, without text, and one of which nothing is known.

    Products that have both come first, and fewer have a photo where photos are large.
    """
    drawn = np.random.default_rng(seed).permutation(rows)
    full = np.array([_is_full(features.store[row]) for row in drawn.tolist()], dtype=bool)
    examples, room = [Example(None, None)], LIMIT_BYTES
    for turn, row in enumerate(drawn[np.argsort(~full, kind="stable")][: NUM_PRODUCTS - 1].tolist()):
        example = features.store[row]
        hidden = _HIDDEN[turn % len(_HIDDEN)] if _is_full(example) else None
        pixels = None if hidden == "image" else example.pixels
        if pixels is not None and pixels.nbytes > room:
            pixels = None
        room -= 0 if pixels is None else pixels.nbytes
        examples.append(Example(None if hidden == "text" and pixels is not None else example.tokens, pixels))
    return examples


def _is_full(example: Example) -> bool:
    return example.tokens is not None and example.pixels is not None
