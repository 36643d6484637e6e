"""The generative model of the demo catalogue and its exact Bayes posteriors.

A product of class c draws a text topic t and a photo motif v from `joint[c]`; each content word of its text
is an independent draw from `word_prob[t]`, each symbol of its photo one from `symbol_prob[v]`. Three kinds of
class:

- told by text: a topic of its own, the motif uniform over the K shared motifs;
- told by photo: a motif of its own, the topic uniform over the K shared topics;
- told by both: shared topic and motif, each uniform, with (t + v) mod K the number of the class.

Every class that has shared topics has all of them alike, so text says exactly nothing among the second and
third kinds, nor a photo among the first and third.

Shapes: N products, C classes, T topics, M motifs, V words, S symbols.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rakuten.data import demo_words

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SHAPES = ("disc", "cross")
COLORS = ("red", "amber", "green", "cyan", "blue", "pink", "black")
NUM_SYMBOLS = len(SHAPES) * len(
    COLORS
)  # symbol s has colour s % 7 and shape s // 7: as many as motifs, so each is shared
OWN_WORD = 0.55  # chance that a content word comes from the text's own topic rather than from the whole shop
OWN_SYMBOL = 0.9  # the same for a photo's symbols and its motif
# Own symbols of motif i are i plus these, modulo NUM_SYMBOLS. All differences are distinct (a Golomb ruler),
# so two motifs share at most one symbol and no symbol alone tells a motif.
RULER = (0, 1, 4)
CHUNK = 4096  # rows of one N x C x M product


@dataclass(frozen=True)
class World:
    """All that generates a catalogue's latent draws, and all that its Bayes rule needs."""

    prior: FloatArray  # (C,)
    joint: FloatArray  # (C, T, M): P(topic, motif | class)
    word_prob: FloatArray  # (T, V): P(word | topic)
    symbol_prob: FloatArray  # (M, S): P(symbol | motif)
    words: tuple[str, ...]  # (V,)
    label_noise: float  # chance that the written label is a uniformly drawn other class

    def posterior(self, words: IntArray, symbols: IntArray) -> FloatArray:
        """P(written class | what is seen), (N, C).

        Args:
            words: (N, V) counts of content words; a row of zeros is a hidden text.
            symbols: (N, S) counts of photo symbols; a row of zeros is a hidden or unreadable photo.
        """
        text, image = _likelihood(words, self.word_prob), _likelihood(symbols, self.symbol_prob)
        starts = range(0, len(words), CHUNK)
        true = np.vstack([self._true_posterior(text[i : i + CHUNK], image[i : i + CHUNK]) for i in starts])
        noise = self.label_noise
        written: FloatArray = (1 - noise) * true + noise * (1 - true) / (len(self.prior) - 1)
        return written

    def _true_posterior(self, text: FloatArray, image: FloatArray) -> FloatArray:
        num_classes, num_topics, num_motifs = self.joint.shape
        by_topic = self.joint.transpose(1, 0, 2).reshape(num_topics, -1)
        by_motif = (text @ by_topic).reshape(-1, num_classes, num_motifs)
        joint = self.prior * np.einsum("ncm,nm->nc", by_motif, image)
        true: FloatArray = joint / joint.sum(axis=1, keepdims=True)
        return true

    @cached_property
    def word_bound(self) -> float:
        """Largest P(class | one content word) of all classes and words."""
        return _largest_posterior(self.prior, self.joint.sum(axis=2) @ self.word_prob)

    @cached_property
    def symbol_bound(self) -> float:
        """Largest P(class | one photo symbol) of all classes and symbols."""
        return _largest_posterior(self.prior, self.joint.sum(axis=1) @ self.symbol_prob)


def _largest_posterior(prior: FloatArray, likelihood: FloatArray) -> float:
    joint = prior[:, None] * likelihood
    return float((joint / joint.sum(axis=0)).max())


def _likelihood(counts: IntArray, prob: FloatArray) -> FloatArray:
    """(N, topics or motifs) likelihood of each row's counts, scaled so that a row's largest is 1."""
    log_likelihood = counts @ np.log(prob).T
    scaled: FloatArray = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    return scaled


def build_world(codes: Sequence[object], prior: FloatArray, label_noise: float) -> World:
    """The demo's world for classes in the order of `codes`, with class shares `prior` (C,)."""
    joint = _joint(codes)
    topics = [text.split() for text in (*demo_words.TEXT_CLASSES.values(), *demo_words.SHARED_TOPICS)]
    own_words = np.zeros((len(topics), sum(map(len, topics))))
    start = 0
    for topic, words in enumerate(topics):
        own_words[topic, start : start + len(words)] = 1 / len(words)
        start += len(words)
    own_symbols = np.zeros((joint.shape[2], NUM_SYMBOLS))
    for motif in range(len(own_symbols)):
        own_symbols[motif, [(motif + step) % NUM_SYMBOLS for step in RULER]] = 1 / len(RULER)
    return World(
        prior=prior,
        joint=joint,
        word_prob=_mixed(own_words, OWN_WORD, np.einsum("c,ctm->t", prior, joint)),
        symbol_prob=_mixed(own_symbols, OWN_SYMBOL, np.einsum("c,ctm->m", prior, joint)),
        words=tuple(word for topic in topics for word in topic),
        label_noise=label_noise,
    )


def _mixed(own: FloatArray, share: float, weights: FloatArray) -> FloatArray:
    # What is not own follows the whole shop. P(topic | word) is then share + (1 - share) * P(topic): no word
    # of a rare topic gives it away, as it would if every topic borrowed evenly from all others.
    return share * own + (1 - share) * (weights @ own)


def _joint(codes: Sequence[object]) -> FloatArray:
    text, image, both = tuple(demo_words.TEXT_CLASSES), demo_words.IMAGE_CLASSES, demo_words.BOTH_CLASSES
    num_shared = len(both)
    joint = np.zeros((len(codes), len(text) + num_shared, len(image) + num_shared))
    for row, code in zip(joint, codes, strict=True):
        for k in range(num_shared):
            if code in text:
                row[text.index(code), len(image) + k] = 1 / num_shared
            elif code in image:
                row[len(text) + k, image.index(code)] = 1 / num_shared
            else:
                motif = (both.index(code) - k) % num_shared
                row[len(text) + k, len(image) + motif] = 1 / num_shared
    return joint


def draw_latents(world: World, classes: IntArray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Topic and motif (N,) of products of the given true classes (N,)."""
    num_classes, _, num_motifs = world.joint.shape
    pair = draw(world.joint.reshape(num_classes, -1), classes, 1, rng)[:, 0]
    return pair // num_motifs, pair % num_motifs


def draw(prob: FloatArray, rows: IntArray, length: int, rng: np.random.Generator) -> IntArray:
    """(N, length) independent draws; those of product n follow `prob[rows[n]]`."""
    uniform = rng.random((len(rows), length))
    drawn = np.empty(uniform.shape, dtype=np.int64)
    for row, weights in enumerate(prob):
        mine = rows == row
        cumulative = np.cumsum(weights)
        drawn[mine] = np.searchsorted(cumulative, uniform[mine] * cumulative[-1], side="right")
    return drawn


def count(drawn: IntArray, size: int) -> IntArray:
    """(N, size) how often each value stands in each row of `drawn` (N, length); -1 is an empty place."""
    counts = np.zeros((len(drawn), size), dtype=np.int64)
    row, column = np.nonzero(drawn >= 0)
    np.add.at(counts, (row, drawn[row, column]), 1)
    return counts
