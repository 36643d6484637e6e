"""What changed, in words, and the products that show it most."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rakuten.data.labels import Code
from rakuten.model.reference import Observations
from rakuten.monitor.drift.checks import Column, categories_of, counts_of

# What a number going up and going down is called.
WORDS: Final = {
    "confidence": ("answers are more confident", "answers are less confident"),
    "title_chars": ("titles are longer", "titles are shorter"),
    "description_chars": ("descriptions are longer", "descriptions are shorter"),
    "num_tokens": ("texts have more tokens", "texts have fewer tokens"),
    "oov_share": ("texts have more unknown words", "texts have fewer unknown words"),
    "brightness": ("photos are brighter", "photos are darker"),
    "contrast": ("photos have more contrast", "photos have less contrast"),
    "saturation": ("photos are more colourful", "photos are paler"),
    "sharpness": ("photos are sharper", "photos are blurrier"),
    "white_share": ("photos have more white", "photos have less white"),
}
FLAGS: Final = {
    "has_text": "products with a text",
    "has_description": "products with a description",
    "has_image": "products with a photo",
    "image_failed": "photos that cannot be decoded",
}
EMBEDDINGS: Final = {"text_embedding": "texts", "image_embedding": "photos"}


def describe(column: Column, codes: Sequence[Code]) -> str:
    """One line of what the window has and the reference had."""
    if column.kind == "numbers":
        return _of_numbers(column)
    if column.kind == "embeddings":
        what = EMBEDDINGS.get(column.name, column.name)
        return (
            f"{what} look unlike those the model was evaluated on (all dimensions of its features together)"
        )
    category, was, now = _most_moved(column)
    if column.name in FLAGS:
        shares = _share_of(column, True)
        return f"{FLAGS[column.name]}: {shares[0]:.1%} → {shares[1]:.1%}"
    name = codes[category] if isinstance(category, int) and column.name == "classes" else category
    of = "answers of category" if column.name == "classes" else f"{column.name}"
    return f"{of} {name}: {was:.1%} → {now:.1%} of products"


def examples(column: Column, window: Observations, num: int) -> tuple[str, ...]:
    """Ids of the products of the window that show the change most, most first."""
    if len(column.rows) == 0:
        return ()
    if column.kind == "numbers":
        strength = _distance_from_usual(column)
    elif column.kind == "embeddings":
        strength = _unlikeness(column)
    else:
        category, was, now = _most_moved(column)
        # Of a category that shrank nothing is left to show: its place was taken by all others alike.
        strength = np.where(column.window == category, 1.0, 0.0) if now > was else np.zeros(len(column.rows))
        strength = strength * (1 + window.confidence[column.rows])
    order = np.argsort(-strength, kind="stable")[:num]
    return tuple(window.ids[column.rows[i]].item() for i in order if strength[i] > 0)


def _of_numbers(column: Column) -> str:
    up, down = WORDS.get(column.name, (f"{column.name} is higher", f"{column.name} is lower"))
    was, now = (f"{np.median(side):.3g}" for side in (column.reference, column.window))
    figure = "median"
    if was == now:  # most texts have no unknown word before and after
        was, now = (f"{side.astype(np.float64).mean():.3g}" for side in (column.reference, column.window))
        figure = "mean"
    return f"{up if _rank_difference(column) >= 0 else down}: {figure} {was} → {now}"


def _rank_difference(column: Column) -> float:
    """Cliff's delta: P(window > reference) - P(window < reference)."""
    ordered = np.sort(column.reference)
    below = np.searchsorted(ordered, column.window, side="left").mean()
    above = len(ordered) - np.searchsorted(ordered, column.window, side="right").mean()
    return float(below - above) / len(ordered)


def _distance_from_usual(column: Column) -> NDArray[np.float64]:
    """(n,) how far a number lies beyond the reference's median in the direction of the change."""
    sign = 1.0 if _rank_difference(column) >= 0 else -1.0
    beyond: NDArray[np.float64] = sign * (column.window.astype(np.float64) - np.median(column.reference))
    return beyond


def _unlikeness(column: Column) -> NDArray[np.float64]:
    """(n,) distance from the reference's mean in its standard deviations, over all dimensions."""
    reference = column.reference.astype(np.float32)
    spread = np.maximum(reference.std(axis=0), 1e-6)
    away = (column.window.astype(np.float32) - reference.mean(axis=0)) / spread
    unlikeness: NDArray[np.float64] = np.linalg.norm(away, axis=1).astype(np.float64)
    return unlikeness


def _most_moved(column: Column) -> tuple[object, float, float]:
    """The category whose share moved most against what chance moves, with both shares."""
    of_window, of_reference = counts_of(column)
    now, was = of_window / max(1, of_window.sum()), of_reference / max(1, of_reference.sum())
    pooled = (of_window + of_reference) / (of_window + of_reference).sum()
    place = int(np.argmax(np.abs(now - was) / np.sqrt(np.maximum(pooled * (1 - pooled), 1e-12))))
    return categories_of(column)[place].item(), float(was[place]), float(now[place])


def _share_of(column: Column, value: object) -> tuple[float, float]:
    return float((column.reference == value).mean()), float((column.window == value).mean())
