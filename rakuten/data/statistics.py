"""What can be counted of one product's input, alike when a model is evaluated and when it answers.

Texts are counted after cleaning and photos after decoding, both as the model gets them: a shop that starts to send
markup or larger photos of the same things has not drifted.
"""

import io
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image

from rakuten.data.language import Language, language_of
from rakuten.data.pixels import FORMATS, WHITE_TOLERANCE
from rakuten.data.preprocess import Example, Preprocessor, Product
from rakuten.data.text_encoder import words

READ_CHARS: Final = 2000  # of title and description together; language and unknown words are told by these
COARSE_PX: Final = 96  # of a photo with a longer side every second, third ... pixel is enough
SHARPNESS_PX: Final = (
    128  # side of the middle part that sharpness is measured on, where no pixel may be left out
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputStatistics:
    """One product's input in numbers. What is absent has no statistics: None, never 0 (lengths are 0)."""

    has_text: bool  # the model saw tokens
    has_description: bool
    has_image: bool  # the model saw pixels
    image_failed: bool  # a photo was given that could not be decoded
    title_chars: int  # of the cleaned title
    description_chars: int  # of the cleaned description
    num_tokens: int
    oov_share: float | None  # share of unknown tokens, or of unknown words where known words were given
    language: Language | None  # None without any text
    image_width: int | None  # px, as the photo's header declares, before a turn that its EXIF asks for
    image_height: int | None  # px
    brightness: float | None  # mean luma / 255
    contrast: float | None  # standard deviation of luma / 255
    saturation: float | None  # mean of the largest less the smallest of R, G and B / 255
    sharpness: float | None  # variance of the Laplacian of luma (Pech-Pacheco et al., 2000)
    white_share: float | None  # share of pixels as white as a border


def input_statistics(
    product: Product, example: Example, preprocessor: Preprocessor, known_words: Set[int] | None = None
) -> InputStatistics:
    """Statistics of a product and of what `preprocessor` made of it.

    Args:
        known_words: `known_words` of the training texts, for encoders without an unknown token.
    """
    encoder = preprocessor.text_encoder
    return statistics_of(
        preprocessor.clean(product.designation),
        preprocessor.clean(product.description),
        example,
        unknown_id=None if encoder is None else encoder.unknown_id,
        known_words=known_words,
        size_px=declared_size(product.image),
    )


def statistics_of(
    title: str,
    description: str,
    example: Example,
    *,
    unknown_id: int | None = None,
    known_words: Set[int] | None = None,
    size_px: tuple[int, int] | None = None,
) -> InputStatistics:
    """As `input_statistics`, for texts that are cleaned already and a photo of `size_px` (width, height)."""
    read = f"{title} {description}"[:READ_CHARS]
    found = words(read)
    tokens, pixels = example.tokens, example.pixels
    oov_share = None
    if known_words is not None:
        oov_share = _share_unknown(found, known_words)
    elif unknown_id is not None and tokens is not None:
        oov_share = float(np.count_nonzero(tokens.ids == unknown_id)) / len(tokens)
    width, height = (None, None) if size_px is None or pixels is None else size_px
    brightness, contrast, saturation, sharpness, white_share = _of_pixels(pixels)
    return InputStatistics(
        has_text=tokens is not None,
        has_description=bool(description),
        has_image=pixels is not None,
        image_failed=example.image_problem is not None,
        title_chars=len(title),
        description_chars=len(description),
        num_tokens=0 if tokens is None else len(tokens),
        oov_share=oov_share,
        language=language_of(read, found) if title or description else None,
        image_width=width,
        image_height=height,
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        sharpness=sharpness,
        white_share=white_share,
    )


def known_words(texts: Iterable[str]) -> frozenset[int]:
    """32-bit hashes of all words of cleaned texts: enough to tell a new word, 4 bytes each to keep."""
    return frozenset(_hash(word) for text in texts for word in words(text[:READ_CHARS]))


def declared_size(image: bytes | Path | None) -> tuple[int, int] | None:
    """Width and height in a photo's header, in px; None where there is no photo or no header."""
    if image is None:
        return None
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image, formats=FORMATS) as opened:
            return opened.size
    except Exception:  # as in decoding: whatever the format trips over
        return None


def _hash(word: str) -> int:
    return xxhash.xxh32_intdigest(word.encode())


def _share_unknown(found: Sequence[str], known: Set[int]) -> float | None:
    if not found:
        return None
    return sum(_hash(word) not in known for word in found) / len(found)


_Five = tuple[float | None, float | None, float | None, float | None, float | None]


def _of_pixels(pixels: NDArray[np.uint8] | None) -> _Five:
    """Brightness, contrast, saturation, sharpness and white share of (3, S, S)."""
    if pixels is None:
        return None, None, None, None, None
    step = max(1, pixels.shape[1] // COARSE_PX)
    coarse = pixels[:, ::step, ::step]
    luma = _luma(coarse)
    values = luma.ravel().astype(np.float32)
    mean = float(values.mean())
    return (
        mean / 255,
        float(values.std(mean=mean)) / 255,
        float((coarse.max(axis=0) - coarse.min(axis=0)).mean()) / 255,
        _sharpness(pixels),
        float(np.count_nonzero(luma >= 255 - WHITE_TOLERANCE)) / luma.size,
    )


def _luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(S, S) of ITU-R BT.601, in whole numbers: 16 bits are several times faster than floats."""
    red, green, blue = pixels
    luma: NDArray[np.uint16] = red * np.uint16(77) + green * np.uint16(150) + blue * np.uint16(29)
    return (luma >> np.uint16(8)).astype(np.uint8)


def _sharpness(pixels: NDArray[np.uint8]) -> float:
    """Within what is not padding, whose edge is sharp however blurred the photo is."""
    side = pixels.shape[1]
    edge = max(0, (side - SHARPNESS_PX) // 2)
    luma = _luma(pixels[:, edge : side - edge, edge : side - edge])
    content = luma < 255 - WHITE_TOLERANCE
    rows, columns = np.flatnonzero(content.any(axis=1)), np.flatnonzero(content.any(axis=0))
    if not len(rows) or min(rows[-1] - rows[0], columns[-1] - columns[0]) < 2:
        return 0.0
    part = luma[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.int16)
    sides = part[:-2, 1:-1] + part[2:, 1:-1] + part[1:-1, :-2] + part[1:-1, 2:]
    return float((sides - 4 * part[1:-1, 1:-1]).astype(np.float32).var())
