import itertools
import re

import numpy as np
import pytest

from rakuten.data import demo_catalogue, demo_words
from rakuten.data.demo_world import NUM_SYMBOLS, World, build_world, count, draw, draw_latents

CODES = tuple(demo_words.CLASS_SIZES)
TOPICS = [text.split() for text in (*demo_words.TEXT_CLASSES.values(), *demo_words.SHARED_TOPICS)]
WORDS = [word for topic in TOPICS for word in topic]


def world_of(num_products: int, label_noise: float = 0.04) -> World:
    counts = demo_catalogue.class_counts(CODES, num_products)
    return build_world(CODES, counts / counts.sum(), label_noise)


def test_class_sizes_are_skewed_like_the_real_ones() -> None:
    counts = demo_catalogue.class_counts(CODES, 8000)
    assert counts.sum() == 8000
    assert 12 < counts.max() / counts.min() < 16
    assert demo_catalogue.class_counts(CODES, 100).min() >= 1


def test_neutral_words_are_no_content_words() -> None:
    neutral = (*demo_words.FILLERS, *demo_words.OPENINGS, *demo_words.ENDINGS, *demo_words.SENTENCES)
    assert not set(re.findall(r"\w+", " ".join(neutral).lower())) & set(WORDS)
    assert len(set(WORDS)) == len(WORDS)
    assert all(re.fullmatch(r"\w+", word) and word == word.lower() for word in WORDS)


def test_every_class_is_told_in_exactly_one_way() -> None:
    kinds = (*demo_words.TEXT_CLASSES, *demo_words.IMAGE_CLASSES, *demo_words.BOTH_CLASSES)
    assert sorted(kinds) == sorted(CODES)


def test_text_says_nothing_among_photo_told_and_joint_classes_and_photos_nothing_among_the_others() -> None:
    world, rng = world_of(8000, label_noise=0), np.random.default_rng(0)
    words = count(draw(world.word_prob, rng.integers(0, len(TOPICS), 300), 12, rng), len(WORDS))
    symbols = count(
        draw(world.symbol_prob, rng.integers(0, len(world.symbol_prob), 300), 8, rng), NUM_SYMBOLS
    )
    by_text = world.posterior(words, np.zeros_like(symbols))
    by_image = world.posterior(np.zeros_like(words), symbols)
    for posterior, told in ((by_text, demo_words.TEXT_CLASSES), (by_image, demo_words.IMAGE_CLASSES)):
        untold = [row for row, code in enumerate(CODES) if code not in told]
        among = posterior[:, untold] / posterior[:, untold].sum(axis=1, keepdims=True)
        prior = world.prior[untold] / world.prior[untold].sum()
        np.testing.assert_allclose(among, np.broadcast_to(prior, among.shape), rtol=1e-9)


def test_the_posterior_is_that_of_a_plain_sum_over_topics_and_motifs() -> None:
    world, rng = world_of(8000), np.random.default_rng(1)
    classes = rng.integers(0, len(CODES), 20)
    topic, motif = draw_latents(world, classes, rng)
    words, symbols = draw(world.word_prob, topic, 5, rng), draw(world.symbol_prob, motif, 4, rng)
    posterior = world.posterior(count(words, len(WORDS)), count(symbols, NUM_SYMBOLS))
    for row in range(20):
        joint = np.zeros(len(CODES))
        for c, t, m in itertools.product(*map(range, world.joint.shape)):
            text = np.prod([world.word_prob[t, w] for w in words[row]])
            joint[c] += (
                world.prior[c] * world.joint[c, t, m] * text * np.prod(world.symbol_prob[m, symbols[row]])
            )
        true = joint / joint.sum()
        written = 0.96 * true + 0.04 * (1 - true) / (len(CODES) - 1)
        np.testing.assert_allclose(posterior[row], written, rtol=1e-9)


def test_the_posterior_is_the_frequency_of_classes_among_products_that_look_alike() -> None:
    """Monte Carlo: of many products drawn, those with one word and one symbol alike."""
    world, rng = world_of(8000, label_noise=0.1), np.random.default_rng(2)
    classes = rng.choice(len(CODES), 400_000, p=world.prior)
    topic, motif = draw_latents(world, classes, rng)
    word, symbol = draw(world.word_prob, topic, 1, rng)[:, 0], draw(world.symbol_prob, motif, 1, rng)[:, 0]
    flipped = rng.random(len(classes)) < 0.1
    labels = np.where(flipped, (classes + rng.integers(1, len(CODES), len(classes))) % len(CODES), classes)
    seen = [(w, s) for w in (0, 100, len(WORDS) - 1) for s in (0, 7)]
    for w, s in seen:
        alike = labels[(word == w) & (symbol == s)]
        frequency = np.bincount(alike, minlength=len(CODES)) / len(alike)
        expected = world.posterior(count(np.array([[w]]), len(WORDS)), count(np.array([[s]]), NUM_SYMBOLS))[0]
        assert np.abs(frequency - expected).max() < 4.5 * 0.5 / np.sqrt(len(alike))


def test_no_single_word_and_no_single_symbol_decides_a_class() -> None:
    world = world_of(8000)
    assert world.word_bound < 0.6
    assert world.symbol_bound < 0.6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_bayes_rule_earns_what_it_promises(seed: int) -> None:
    counts = demo_catalogue.class_counts(CODES, 8000)
    world = build_world(CODES, counts / 8000, 0.04)
    classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(CODES)), counts))
    products = demo_catalogue.draw_products(world, classes, demo_catalogue.LABELLED, seed)
    words, symbols = products.word_counts(world), products.symbol_counts()
    limits = []
    for seen in ((words, symbols), (words, symbols * 0), (words * 0, symbols)):
        posterior = world.posterior(*seen)
        expected = posterior.max(axis=1)
        realised = (posterior.argmax(axis=1) == products.labels).mean()
        noise = np.sqrt((expected * (1 - expected)).sum()) / len(expected)
        # Near-copies are right or wrong together: a little more noise than independent rows have.
        assert abs(realised - expected.mean()) < 4.5 * noise
        limits.append(expected.mean())
    both, text, image = limits
    assert 0.92 < both < 0.96
    assert 0.42 < text < 0.6
    assert 0.42 < image < 0.6
