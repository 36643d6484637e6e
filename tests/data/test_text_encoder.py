"""Texts -> tokens: the same again after a save, whatever the text."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rakuten.data.fit_encoder import encoder_settings, fit_encoder, joined
from rakuten.data.text_encoder import NgramEncoder, SubwordEncoder, TextEncoder, Tokens, load_encoder
from rakuten.errors import BundleError
from tests.model.tiny import TEXT_KINDS, corpus, text_config


def encoder(kind: str, **changes: object) -> TextEncoder:
    return fit_encoder(text_config(kind, **changes), corpus())


def encode(of: TextEncoder, title: str, description: str = "") -> Tokens:
    (tokens,) = of.encode([title], [description])
    return tokens


def ids(of: TextEncoder, title: str, description: str = "") -> list[int]:
    return [int(id_) for id_ in encode(of, title, description).ids]


TEXTS = ["livre jeu", "bébé", "inconnu 123", "", "   ", "chaise, carte & figurine !", "书籍", "a" * 300]


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_saved_and_loaded_encodes_alike(tmp_path: Path, kind: str) -> None:
    written = encoder(kind)
    written.save(tmp_path / "tokenizer")
    loaded = load_encoder(tmp_path / "tokenizer")
    assert loaded.fingerprint() == written.fingerprint()
    assert (loaded.pad_id, loaded.vocab_size) == (written.pad_id, written.vocab_size)
    for title, description in zip(TEXTS, TEXTS[::-1], strict=True):
        one, other = encode(written, title, description), encode(loaded, title, description)
        assert np.array_equal(one.ids, other.ids)
        assert np.array_equal(one.weights, other.weights)


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_tokens_are_within_vocabulary_and_length(kind: str) -> None:
    of = encoder(kind, max_tokens=10)
    for tokens in of.encode(TEXTS, TEXTS[::-1]):
        assert tokens.ids.dtype == np.int32
        assert tokens.weights.dtype == np.float32
        assert len(tokens.ids) == len(tokens.weights) == len(tokens) <= 10
        assert (tokens.weights > 0).all()
        assert (tokens.ids >= 0).all()
        assert (tokens.ids < of.vocab_size).all()
        assert of.pad_id not in tokens.ids


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_nothing_is_no_token(kind: str) -> None:
    assert ids(encoder(kind), "", "") == []
    assert encoder(kind).encode([], []) == []


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_products_do_not_depend_on_each_other(kind: str) -> None:
    of = encoder(kind)
    together = of.encode(TEXTS, TEXTS[::-1])
    for position, (title, description) in enumerate(zip(TEXTS, TEXTS[::-1], strict=True)):
        assert together[position].ids.tolist() == ids(of, title, description)


def test_title_and_description_go_in_as_a_pair() -> None:
    of = encoder("transformer")
    start, stop = ids(of, "livre")[0], ids(of, "livre")[-1]
    title, description = ids(of, "livre")[1:-1], ids(of, "console")[1:-1]
    assert ids(of, "livre", "console") == [start, *title, stop, stop, *description, stop]
    assert ids(of, "", "console") == ids(of, "console")
    assert ids(of, "livre console") != ids(of, "livre", "console")


def test_a_long_description_leaves_the_title_whole() -> None:
    of = encoder("transformer", max_tokens=32)
    long = ids(of, "livre jeu", " ".join(corpus()))
    assert len(long) == 32
    title = ids(of, "livre jeu")
    assert long[: len(title)] == title


def test_case_and_accents_are_one_to_n_grams() -> None:
    of = encoder("ngram")
    assert ids(of, "Bébé") == ids(of, "bebe") == ids(of, "BEBE !")


def test_n_grams_hold_words_pairs_and_parts() -> None:
    pairs = set(ids(encoder("ngram", num_buckets=60_000, char_ngrams=[0, 0]), "livre jeu"))
    words = set(
        ids(encoder("ngram", num_buckets=60_000, char_ngrams=[0, 0], word_ngrams=[1, 1]), "livre jeu")
    )
    parts = set(
        ids(encoder("ngram", num_buckets=60_000, char_ngrams=[3, 3], word_ngrams=[1, 1]), "livre jeu")
    )
    assert len(words) == 2
    assert words < pairs
    assert len(pairs) == 3
    assert words < parts
    assert len(parts) == 2 + 5 + 3  # <li liv ivr vre re> and <je jeu eu>


def test_each_n_gram_is_named_once() -> None:
    of = encoder("ngram", num_buckets=60_000)
    assert len(set(ids(of, "livre livre", "livre"))) == len(ids(of, "livre livre", "livre"))


def test_the_title_comes_before_the_description_where_room_is_short() -> None:
    short, room = (
        encoder("ngram", num_buckets=60_000, max_tokens=size, char_ngrams=[0, 0]) for size in (3, 60)
    )
    assert ids(short, "livre jeu", " ".join(corpus())) == ids(room, "livre jeu")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_buckets": 400},
        {"word_ngrams": [1, 1]},
        {"char_ngrams": [3, 4]},
        {"max_tokens": 30},
        {"description_weight": 0.25},
    ],
)
def test_fingerprints_tell_n_gram_settings_apart(changes: dict[str, object]) -> None:
    config, other = text_config("ngram"), text_config("ngram", **changes)
    assert fit_encoder(config, []).fingerprint() == fit_encoder(config, ["any"]).fingerprint()
    assert fit_encoder(config, []).fingerprint() != fit_encoder(other, []).fingerprint()
    assert encoder_settings(config) != encoder_settings(other)


def test_fingerprints_tell_trained_tokenizers_apart() -> None:
    config = text_config("transformer")
    first, again = fit_encoder(config, corpus()), fit_encoder(config, corpus())
    other = fit_encoder(config, [text.replace("livre", "roman") for text in corpus()])
    shorter = fit_encoder(text_config("transformer", max_tokens=8), corpus())
    assert first.fingerprint() == again.fingerprint()
    assert len({first.fingerprint(), other.fingerprint(), shorter.fingerprint()}) == 3


def test_the_same_texts_make_the_same_tokenizer() -> None:
    """Id by id: else a seed would not give the same weights."""
    config = text_config("transformer")
    encoders = [fit_encoder(config, corpus()) for _ in range(5)]
    assert len({each.fingerprint() for each in encoders}) == 1
    assert len({tuple(ids(each, " ".join(corpus()[:3]))) for each in encoders}) == 1


def test_settings_that_do_not_touch_tokens_need_no_new_ones() -> None:
    assert encoder_settings(text_config("ngram")) == encoder_settings(
        text_config("ngram", lr=0.5, dropout=0.3)
    )


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        '{"rakuten_ngrams": {}}',
        '{"rakuten_ngrams": {"x": 1}}',
        '{"tokenizer": {}, "rakuten_subwords": {}}',
    ],
)
def test_torn_tokenizers_are_told(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match="no readable tokenizer"):
        load_encoder(tmp_path)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_has_tokens(title: str, description: str) -> None:
    for of in _ENCODERS:
        tokens = encode(of, title, description)
        assert len(tokens) <= of.max_tokens
        assert np.isfinite(tokens.weights).all()


_ENCODERS: list[NgramEncoder | SubwordEncoder] = [encoder(kind) for kind in TEXT_KINDS]  # type: ignore[misc]


def test_joined() -> None:
    assert joined(["a", "", "c", ""], ["b", "b", "", ""]) == ["a b", "b", "c", ""]
