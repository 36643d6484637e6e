"""Title and description -> token ids. The encoder that trained a model travels in its bundle."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rakuten.config import NgramConfig
from rakuten.errors import BundleError

TokenIds = NDArray[np.int32]
TokenWeights = NDArray[np.float32]
_WORD = re.compile(r"[^\W_]+")
_LIGATURES = str.maketrans({"œ": "oe", "æ": "ae", "ß": "ss"})  # Unicode does not decompose them
_FILE: Final = "tokenizer.json"


@dataclass(frozen=True)
class Tokens:
    """One product's text: `ids` (L,) and how much each counts, `weights` (L,) > 0; a subword counts 1."""

    ids: TokenIds
    weights: TokenWeights

    def __len__(self) -> int:
        return len(self.ids)


class TextEncoder(Protocol):
    """What the data side needs of any tokenizer."""

    pad_id: int
    vocab_size: int
    unknown_id: int | None  # the id of what it does not know; None where nothing is unknown to it

    def encode(self, titles: Sequence[str], descriptions: Sequence[str]) -> list["Tokens"]:
        """Tokens of N products, empty where both texts are."""

    def save(self, folder: Path) -> None:
        """Write what `load` in this module needs."""

    def fingerprint(self) -> str:
        """Equal for two encoders if and only if they encode alike."""


class NgramEncoder:
    """Hashed n-grams of the folded words (lower case, no accents), each id once.

    Character n-grams stay within a word and its boundary marks, as in fastText (Bojanowski et al., 2017). Words and
    word n-grams live in the lower half of the buckets, character n-grams in the upper. An n-gram weighs 1 + ln(count)
    (sublinear term frequency), an occurrence in the description counting `description_weight`. Words come before
    character n-grams, the title before the description, so that a cut at `max_tokens` loses the least.
    """

    pad_id = 0
    unknown_id: int | None = None

    def __init__(
        self,
        num_buckets: int,
        word_ngrams: Sequence[int],
        char_ngrams: Sequence[int],
        max_tokens: int,
        description_weight: float,
    ):
        self.vocab_size = num_buckets
        self.word_ngrams, self.char_ngrams = tuple(word_ngrams), tuple(char_ngrams)
        self.max_tokens, self.description_weight = max_tokens, description_weight
        # Shops repeat their words: one lookup instead of a dozen hashes. Bounded against hostile input.
        self._of_word = lru_cache(maxsize=200_000)(self._char_ids)

    @classmethod
    def from_config(cls, config: NgramConfig) -> "NgramEncoder":
        return cls(
            config.num_buckets,
            config.word_ngrams,
            config.char_ngrams,
            config.max_tokens,
            config.description_weight,
        )

    def encode(self, titles: Sequence[str], descriptions: Sequence[str]) -> list[Tokens]:
        return [
            self._encode(title, description) for title, description in zip(titles, descriptions, strict=True)
        ]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_text(json.dumps({"rakuten_ngrams": self._settings()}), encoding="utf-8")

    def fingerprint(self) -> str:
        return "ngram-" + xxhash.xxh3_64_hexdigest(json.dumps(self._settings(), sort_keys=True).encode())

    def _settings(self) -> dict[str, object]:
        return {
            "num_buckets": self.vocab_size,
            "word_ngrams": list(self.word_ngrams),
            "char_ngrams": list(self.char_ngrams),
            "max_tokens": self.max_tokens,
            "description_weight": self.description_weight,
        }

    def _encode(self, title: str, description: str) -> Tokens:
        # No more words than could matter, so that a huge description costs no more than a large one.
        fields = [
            (words(text)[: self.max_tokens], weight)
            for text, weight in ((title, 1.0), (description, self.description_weight))
        ]
        counts: dict[int, float] = {}
        for field, weight in fields:
            for id_ in self._word_ids(field):
                counts[id_] = counts.get(id_, 0.0) + weight
        for field, weight in fields:
            for word in field:
                for id_ in self._of_word(word):
                    counts[id_] = counts.get(id_, 0.0) + weight
        ids = np.fromiter(counts, dtype=np.int32, count=len(counts))[: self.max_tokens]
        count = np.fromiter(counts.values(), dtype=np.float32, count=len(counts))[: self.max_tokens]
        return Tokens(ids, np.where(count >= 1, 1 + np.log(np.maximum(count, 1)), count).astype(np.float32))

    def _word_ids(self, field: list[str]) -> Iterator[int]:
        shortest, longest = self.word_ngrams
        half = self.vocab_size // 2
        for size in range(shortest, longest + 1):
            for start in range(len(field) - size + 1):
                gram = " ".join(field[start : start + size])
                yield 1 + xxhash.xxh3_64_intdigest(gram.encode()) % (half - 1)  # 0 is padding

    def _char_ids(self, word: str) -> tuple[int, ...]:
        shortest, longest = self.char_ngrams
        half = self.vocab_size // 2
        marked = f"<{word[:64]}>"
        return tuple(
            half + xxhash.xxh3_64_intdigest(marked[start : start + size].encode()) % (self.vocab_size - half)
            for size in range(max(1, shortest), longest + 1)
            for start in range(len(marked) - size + 1)
        )


class SubwordEncoder:
    """A Hugging Face tokenizer; title and description go in as a pair, a missing description as a single text."""

    def __init__(self, tokenizer: Tokenizer, pad_id: int, max_tokens: int):
        self.pad_id, self.max_tokens = pad_id, max_tokens
        self._tokenizer = tokenizer
        self._tokenizer.enable_truncation(max_tokens, strategy="longest_first")
        self._tokenizer.no_padding()
        self.vocab_size: int = tokenizer.get_vocab_size()
        self.unknown_id: int | None = _unknown_id(tokenizer)

    def encode(self, titles: Sequence[str], descriptions: Sequence[str]) -> list[Tokens]:
        pairs = zip(titles, descriptions, strict=True)
        texts = [(title, text) if title and text else title or text for title, text in pairs]
        encodings = self._tokenizer.encode_batch_fast([text or " " for text in texts])
        kept = [e.ids if text else [] for e, text in zip(encodings, texts, strict=True)]
        return [Tokens(np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=np.float32)) for ids in kept]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"pad_id": self.pad_id, "max_tokens": self.max_tokens}
        wrapped = {"rakuten_subwords": settings, "tokenizer": json.loads(self._tokenizer.to_str())}
        (folder / _FILE).write_text(json.dumps(wrapped, ensure_ascii=False), encoding="utf-8")

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()[:16]
        return f"subword-{self.max_tokens}-{digest}"


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    model = json.loads(tokenizer.to_str())["model"]
    token = model.get("unk_token")  # Unigram keeps the id alone, WordPiece and BPE the token
    unknown: int | None = model.get("unk_id") if token is None else tokenizer.token_to_id(token)
    return unknown


def load_encoder(folder: Path) -> TextEncoder:
    """The encoder that `save` wrote.

    Raises:
        BundleError: no such file, or not one of ours.
    """
    path = folder / _FILE
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if "rakuten_ngrams" in saved:
            return NgramEncoder(**saved["rakuten_ngrams"])
        return SubwordEncoder(Tokenizer.from_str(json.dumps(saved["tokenizer"])), **saved["rakuten_subwords"])
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise BundleError(
            f"no readable tokenizer at {path}", got=f"{type(error).__name__}: {error}"
        ) from error


def words(text: str) -> list[str]:
    """Words of a text, lower case and without accents."""
    decomposed = unicodedata.normalize("NFKD", text.lower().translate(_LIGATURES))
    if not decomposed.isascii():
        decomposed = "".join(char for char in decomposed if not unicodedata.combining(char))
    return _WORD.findall(decomposed)
