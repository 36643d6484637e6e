"""The canary set of a bundle: products and sentences whose answers are known, asked before a model may serve.

A changed tokenizer, cleaner, library or processor is found by what it changes. No text of a customer is kept: of
products there are token ids and pixels, and the sentences are our own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from rakuten.data.preprocess import Example, Preprocessor
from rakuten.data.text_encoder import Tokens
from rakuten.errors import BundleError
from rakuten.model.bundle import Predictor
from rakuten.model.bundle_files import add_file
from rakuten.model.runtime import TOLERANCE, Runtime, TorchRuntime, embed

CANARY: Final = "canary.safetensors"
LEAST_EQUAL_CODES: Final = 0.9  # of a runtime whose numbers are not those of float32
_BATCH: Final = 8
TEXTS: Final[tuple[tuple[str, str], ...]] = (
    ("Console de jeux portable 32 Go", "Écran 6 pouces, deux manettes, chargeur fourni."),
    (
        "<b>Piscine</b> tubulaire <i>ronde</i>",
        "<p>Diamètre&nbsp;: 3,66&nbsp;m<br/>Pompe &amp; filtre inclus</p>",
    ),
    ("Lot de 2 coussins d&eacute;co &amp;eacute;t&amp;eacute;", ""),
    ("Gärtnerhandschuhe Größe L, wasserdicht", "Für Garten und Küche – waschbar bei 40 °C."),
    ("Harry Potter and the Philosopher's Stone (paperback)", "First edition, good condition."),
    ("🎁 Peluche licorne 40 cm 👩‍👩‍👧‍👦", "Idéale pour un cadeau 🎂 dès 3 ans"),
    ("", ""),
    ("", "Description seule, sans titre"),
    ("CAFÉ & thÃ© œuvre Noël naïve ÇA", "l’été “guillemets” … ½ m² № 5"),
    ("Vis M8x40 inox A2 DIN 933 (x100) réf. 4006209", "1.000,50 € TTC — 12V/230V 50-60Hz"),
    ("书籍 Figurine ドラゴン كتاب", "\u200b\u00a0\ttabulation\net\r\nretours"),
    ("chaise " * 40, "Chaise de jardin pliante en acacia massif huilé. " * 102),
)


@dataclass(frozen=True)
class Canary:
    """N products with the (N, C) calibrated probabilities that torch gave, and sentences with their tokens."""

    examples: list[Example]
    expected: NDArray[np.float32]
    texts: list[tuple[str, str]]
    tokens: list[Tokens | None]


@dataclass(frozen=True)
class CanaryResult:
    """How a runtime answered; `failures` are what nobody should serve."""

    state: Literal["ok", "failed", "absent"]
    num_products: int = 0
    max_difference: float = 0.0  # of a calibrated probability
    equal_codes: float = 1.0  # share of products
    entropy: float = 0.0  # of the mean answer, nats: near 0 where every product gets the same category
    expected_entropy: float = 0.0
    failures: tuple[str, ...] = ()


def record_canary(bundle: Path, examples: Sequence[Example]) -> None:
    """Keep these products, with what the bundle says of them on a CPU, under the bundle's hashes.

    Raises:
        BundleError: no bundle there, or a torn one.
    """
    predictor = Predictor.load(bundle)
    texts = list(TEXTS)
    probs = _answers(predictor, TorchRuntime(predictor.classifier), examples)
    tensors: dict[str, NDArray[Any]] = {"expected": probs.astype(np.float32)}
    tensors |= _ragged("product", [example.tokens for example in examples])
    tensors |= _ragged("text", encode(predictor.preprocessor, texts))
    photos = [example.pixels for example in examples if example.pixels is not None]
    tensors["has_image"] = np.array([example.pixels is not None for example in examples], dtype=np.bool_)
    if photos:
        tensors["pixels"] = np.stack(photos)
    save_file(tensors, bundle / CANARY)
    add_file(bundle, CANARY, canary_texts=[list(text) for text in texts])


def encode(preprocessor: Preprocessor, texts: Sequence[tuple[str, str]]) -> list[Tokens | None]:
    """Tokens of titles and descriptions, through the cleaner as the service does it."""
    titles, descriptions = ([preprocessor.clean(text[part]) for text in texts] for part in (0, 1))
    return preprocessor.tokens(titles, descriptions)


def read_canary(predictor: Predictor) -> Canary | None:
    """The canary set of the bundle that the predictor was loaded from; None if it was made before there was any.

    Raises:
        BundleError: it cannot be read.
    """
    if predictor.path is None or CANARY not in predictor.info["hashes"]:
        return None
    try:
        tensors = load_file(predictor.path / CANARY)
        pixels = iter(tensors.get("pixels", ()))
        examples = [
            Example(tokens, next(pixels) if has_image else None)
            for tokens, has_image in zip(_cut("product", tensors), tensors["has_image"], strict=True)
        ]
        texts = [(title, text) for title, text in predictor.info["canary_texts"]]
        tokens = _cut("text", tensors)
        if len(tokens) != len(texts) or tensors["expected"].shape != (len(examples), len(predictor.labels)):
            raise ValueError("of another size than the products or the classes")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, StopIteration) as error:
        raise BundleError(f"the canary set at {predictor.path} cannot be read", got=str(error)) from error
    return Canary(examples, tensors["expected"], texts, tokens)


def run_canary(predictor: Predictor, runtime: Runtime) -> CanaryResult:
    """Ask the canary set; says what it found, whether good or bad.

    Raises:
        BundleError: the set cannot be read.
    """
    canary = read_canary(predictor)
    if canary is None:
        return CanaryResult("absent")
    failures = _other_tokens(predictor.preprocessor, canary)
    probs = _answers(predictor, runtime, canary.examples)
    difference = float(np.abs(probs - canary.expected).max(initial=0))
    equal = float(np.mean(probs.argmax(axis=1) == canary.expected.argmax(axis=1)))
    if not difference <= runtime.tolerance:  # also where it is no number
        failures.append(
            f"a probability is off by {difference:.2g}, {runtime.name} may by {runtime.tolerance:.2g}"
        )
    if runtime.tolerance > TOLERANCE and equal < LEAST_EQUAL_CODES:
        failures.append(f"only {equal:.0%} of the answers are the same, expected {LEAST_EQUAL_CODES:.0%}")
    return CanaryResult(
        "failed" if failures else "ok",
        len(canary.examples),
        difference,
        equal,
        _entropy(probs),
        _entropy(canary.expected),
        tuple(failures),
    )


def check_canary(predictor: Predictor, runtime: Runtime) -> CanaryResult:
    """As `run_canary`, for whoever is about to serve.

    Raises:
        BundleError: a sentence gets other tokens, or an answer is further off than the runtime's tolerance.
    """
    result = run_canary(predictor, runtime)
    if result.failures:
        raise BundleError(
            f"the bundle at {predictor.path} does not answer its canary set as when it was made",
            expected=f"probabilities within {runtime.tolerance:.2g} and the same tokens",
            got="; ".join(result.failures),
            fix="serve it with the version of rakuten and its libraries that wrote it, or train again",
        )
    return result


def _answers(predictor: Predictor, runtime: Runtime, examples: Sequence[Example]) -> NDArray[np.float64]:
    parts = [predictor.batch(examples[start : start + _BATCH]) for start in range(0, len(examples), _BATCH)]
    probs = [predictor.probabilities_of(runtime, embed(runtime, part)) for part in parts]
    return np.concatenate([np.empty((0, len(predictor.labels))), *probs])


def _other_tokens(preprocessor: Preprocessor, canary: Canary) -> list[str]:
    found = encode(preprocessor, canary.texts)
    return [
        f"the sentence {(title or text)[:40]!r} gets other tokens"
        for (title, text), now, then in zip(canary.texts, found, canary.tokens, strict=True)
        if not _same(now, then)
    ]


def _same(one: Tokens | None, other: Tokens | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one.ids, other.ids) and np.allclose(one.weights, other.weights, atol=1e-5)


def _entropy(probs: NDArray[np.float64] | NDArray[np.float32]) -> float:
    mean = probs.mean(axis=0, dtype=np.float64)
    return float(-(mean * np.log(np.maximum(mean, 1e-12))).sum())


def _ragged(name: str, tokens: Sequence[Tokens | None]) -> dict[str, NDArray[Any]]:
    """Texts end to end; -1 is the length of none."""
    kept = [each for each in tokens if each is not None]
    lengths = [-1 if each is None else len(each) for each in tokens]
    return {
        f"{name}_lengths": np.array(lengths, dtype=np.int32),
        f"{name}_ids": np.concatenate([np.empty(0, np.int32), *(each.ids for each in kept)]),
        f"{name}_weights": np.concatenate([np.empty(0, np.float32), *(each.weights for each in kept)]),
    }


def _cut(name: str, tensors: dict[str, NDArray[Any]]) -> list[Tokens | None]:
    lengths = tensors[f"{name}_lengths"].astype(np.int64)
    ends = np.maximum(lengths, 0).cumsum()
    ids = tensors[f"{name}_ids"].astype(np.int32)
    weights = tensors[f"{name}_weights"].astype(np.float32)
    return [
        None if length < 0 else Tokens(ids[end - length : end], weights[end - length : end])
        for length, end in zip(lengths, ends, strict=True)
    ]
