"""One product -> tensors. The same object trains, evaluates and serves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rakuten.config import Limits
from rakuten.data.clean import clean
from rakuten.data.pixels import load_pixels
from rakuten.data.text_encoder import TextEncoder, Tokens
from rakuten.errors import DataError


@dataclass(frozen=True)
class Product:
    """What a shop has of a product. `image` is an encoded photo or the path of one; None is a state, not an error."""

    designation: str | None = None
    description: str | None = None
    image: bytes | Path | None = None


@dataclass(frozen=True)
class Example:
    """One product as the model sees it: tokens, pixels (3, S, S) uint8, either None where absent.

    `image_problem` says why a photo that was given is not there.
    """

    tokens: Tokens | None
    pixels: NDArray[np.uint8] | None
    image_problem: str | None = None


@dataclass(frozen=True)
class Preprocessor:
    """Cleans, tokenizes, decodes. A tower that the model lacks has no preprocessing: its field is always None."""

    text_encoder: TextEncoder | None
    image_px: int | None
    trim_border: bool
    limits: Limits

    def __call__(self, products: Sequence[Product]) -> list[Example]:
        tokens = self.tokens(
            [self.clean(product.designation) for product in products],
            [self.clean(product.description) for product in products],
        )
        return [
            Example(ids, *self._pixels_or_problem(product.image))
            for ids, product in zip(tokens, products, strict=True)
        ]

    def clean(self, text: str | None) -> str:
        return clean(text, self.limits.text_chars)

    def tokens(self, titles: Sequence[str], descriptions: Sequence[str]) -> list[Tokens | None]:
        """Tokens of N cleaned products, None where there is no text."""
        if self.text_encoder is None:
            return [None] * len(titles)
        return [ids if len(ids) else None for ids in self.text_encoder.encode(titles, descriptions)]

    def pixels(self, image: bytes | Path) -> NDArray[np.uint8]:
        """(3, S, S) uint8 of an encoded photo. Raises DataError where it cannot be had."""
        assert self.image_px is not None
        return load_pixels(image, self.image_px, self.trim_border, self.limits)

    def _pixels_or_problem(self, image: bytes | Path | None) -> tuple[NDArray[np.uint8] | None, str | None]:
        if image is None or self.image_px is None:
            return None, None
        try:
            return self.pixels(image), None
        except DataError as error:
            return None, error.problem
