"""Random changes of training texts, before they are tokenized."""

import re
import unicodedata
from typing import Final

import numpy as np

from rakuten.config import AugmentConfig

_WORD = re.compile(r"[^\W_]+")
# What catalogues in normalised form leave out, without accents.
FRENCH_STOP_WORDS: Final = frozenset(
    [
        "a",
        "au",
        "aux",
        "avec",
        "c",
        "ce",
        "ces",
        "d",
        "dans",
        "de",
        "des",
        "du",
        "elle",
        "en",
        "est",
        "et",
        "eux",
        "h",
        "il",
        "j",
        "je",
        "l",
        "la",
        "le",
        "les",
        "leur",
        "lui",
        "m",
        "ma",
        "mais",
        "me",
        "meme",
        "mes",
        "moi",
        "mon",
        "n",
        "ne",
        "nos",
        "notre",
        "nous",
        "on",
        "ou",
        "par",
        "pas",
        "pour",
        "qu",
        "que",
        "qui",
        "s",
        "sa",
        "sans",
        "se",
        "ses",
        "son",
        "sous",
        "sur",
        "t",
        "ta",
        "te",
        "tes",
        "toi",
        "ton",
        "tu",
        "un",
        "une",
        "vos",
        "votre",
        "vous",
        "y",
    ]
)


def augment_text(
    title: str, description: str, config: AugmentConfig, rng: np.random.Generator
) -> tuple[str, str]:
    """The description, all stop words, or single words dropped at random; a text never loses its last word."""
    if description and title and rng.random() < config.drop_description:
        description = ""
    stop = rng.random() < config.drop_stop_words
    if stop or config.drop_words:
        title = _drop(title, stop, config.drop_words, rng)
        description = _drop(description, stop, config.drop_words, rng)
    return title, description


def changes_text(config: AugmentConfig) -> bool:
    return bool(config.drop_description or config.drop_stop_words or config.drop_words)


def _drop(text: str, stop: bool, share: float, rng: np.random.Generator) -> str:
    found = list(_WORD.finditer(text))
    dropped = rng.random(len(found)) < share
    keep = [
        not (gone or (stop and _is_stop_word(word.group())))
        for gone, word in zip(dropped, found, strict=True)
    ]
    if not any(keep):
        return text
    parts, end = [], 0
    for word, kept in zip(found, keep, strict=True):
        parts += [text[end : word.start()], word.group() if kept else ""]
        end = word.end()
    return "".join([*parts, text[end:]])


def _is_stop_word(word: str) -> bool:
    if len(word) > 5:
        return False
    folded = unicodedata.normalize("NFKD", word.lower()).encode("ascii", "ignore").decode()
    return folded in FRENCH_STOP_WORDS
