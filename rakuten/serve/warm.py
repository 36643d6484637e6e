"""Each shape of input before the first request: memory is reserved, kernels are chosen, and costs are known."""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

import numpy as np
from PIL import Image

from rakuten.data.batching import pad
from rakuten.data.pixels import FORMATS
from rakuten.data.text_encoder import Tokens
from rakuten.serve.costs import LaneCost
from rakuten.serve.served import Served

LENGTHS: Final = (8, 32, 128, 512)  # tokens, up to what the model reads
SIZES: Final = (1, 2, 4, 16, 64)  # products
LONGEST_S: Final = 0.5  # no batch is tried that is likely to take longer: such ones are formed seldom
WITHIN_S: Final = 2.5  # of all shapes together: on a busy machine the largest are left out
_PHOTO_PX: Final = 500


def warm_up(served: Served, *, token_budget: int, batch_size: int, within_s: float = WITHIN_S) -> None:
    """Run texts, photos and heads of each size that batches have, small ones first; `served.costs` learns their time.

    Each runs twice and counts once: what the first call of a shape costs, no request pays for. Nor does it count towards
    `within_s`: on a GPU the first call of all, which loads its libraries, can take longer than all others together.
    """
    left_s = within_s
    sizes = sorted({*(size for size in SIZES if size < batch_size), batch_size})
    _head(served, 1)
    for lane, run, parts, units in sorted(
        [*_text_batches(served, sizes, token_budget), *_photo_batches(served, sizes)],
        key=lambda each: each[2:],
    ):
        if left_s > 0 and lane.seconds(units) < LONGEST_S:
            run()
            started = time.monotonic()
            run()
            seconds = time.monotonic() - started
            lane.add(parts, units, units, seconds)
            left_s -= seconds
    for size in sizes:
        _head(served, size)


_Batch = tuple[
    LaneCost, Callable[[], object], int, int
]  # whose cost, what runs it, its products and its units


def _text_batches(served: Served, sizes: Sequence[int], token_budget: int) -> Iterator[_Batch]:
    encoder = served.predictor.preprocessor.text_encoder
    if served.runtime.text_dim is None or encoder is None:
        return
    for tokens in _texts(served):
        for size in sizes:
            if size == 1 or size * len(tokens) <= token_budget:
                batch = pad([tokens] * size, encoder.pad_id)
                yield served.costs.text, partial(served.runtime.text, *batch), size, batch[0].size


def _photo_batches(served: Served, sizes: Sequence[int]) -> Iterator[_Batch]:
    if served.runtime.image_dim is None:
        return
    pixels = [served.predictor.preprocessor.pixels(photo) for photo in _photos()]
    for size in sizes:
        photos = np.stack([pixels[0]] * size)
        yield served.costs.image, partial(served.runtime.image, photos), size, size


def _texts(served: Served) -> Sequence[Tokens]:
    """Texts of each length, of tokens that the model knows."""
    preprocessor = served.predictor.preprocessor
    words = " ".join(f"été{number}" for number in range(max(LENGTHS)))
    [longest] = preprocessor.tokens([preprocessor.clean(words)], [preprocessor.clean(words)])
    assert longest is not None
    lengths = sorted({*(length for length in LENGTHS if length < len(longest)), len(longest)})
    return [Tokens(longest.ids[:length], longest.weights[:length]) for length in lengths]


def _photos() -> list[bytes]:
    """One of each format: Pillow loads its decoders when they are first wanted."""
    found = []
    for name in FORMATS:
        stream = io.BytesIO()
        Image.new("RGB", (_PHOTO_PX, _PHOTO_PX), "gray").save(stream, name)
        found.append(stream.getvalue())
    return found


def _head(served: Served, size: int) -> None:
    text, image = (
        None if width is None else np.zeros((size, width), np.float32)
        for width in (served.runtime.text_dim, served.runtime.image_dim)
    )
    for has_text, has_image in ((True, True), (True, False), (False, True)):
        served.runtime.head(text, image, np.full(size, has_text), np.full(size, has_image))
