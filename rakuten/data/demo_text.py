"""Titles and descriptions of the generated catalogue, and the real one's bad habits in writing them.

Everything here but the content words handed in is independent of the class: neutral words, sentence forms,
tags, entities and mojibake are drawn from their own generator.
"""

import random
import re
from collections.abc import Sequence

from rakuten.data import demo_words

FILLER = 0.35  # chance of a neutral word between two content words of a title
SHOUTED = 0.04  # share of titles in capitals
DIRTY = 0.46  # share of rows with tags, entities or mojibake
MOJIBAKE = 0.08  # share of those whose accents were wrongly decoded
TAGS = ("<p>{} </p> ", "{} <br /> ", "<b>{}</b> <br> ", "<li> {} </li> ", '<div class="desc">{} </div> ')
ENTITIES = {
    "&": "&amp;",
    "é": "&eacute;",
    "è": "&egrave;",
    "ê": "&ecirc;",
    "à": "&agrave;",
    "ç": "&ccedil;",
    "'": "&#39;",
}


def write_title(words: Sequence[str], rng: random.Random) -> str:
    parts = [words[0].capitalize()]
    for word in words[1:]:
        if rng.random() < FILLER:
            parts.append(rng.choice(demo_words.FILLERS))
        parts.append(word)
    title = " ".join(filter(None, [rng.choice(demo_words.OPENINGS), *parts, rng.choice(demo_words.ENDINGS)]))
    return title.upper() if rng.random() < SHOUTED else title


def write_sentences(words: Sequence[str], rng: random.Random) -> list[str]:
    sentences, rest = [], list(words)
    while rest:
        size = rng.randint(2, 4)
        sentences.append(rng.choice(demo_words.SENTENCES).format(", ".join(rest[:size])))
        rest = rest[size:]
    return sentences


def write_fields(title: str, sentences: Sequence[str], rng: random.Random) -> tuple[str, str]:
    """Designation and description as a careless shop would store them; "" where there are no sentences."""
    description = " ".join(sentences)
    if rng.random() >= DIRTY:
        return title, description
    if rng.random() < MOJIBAKE and any(map(_has_safe_accent, (title, description))):
        return _mojibake(title), _mojibake(description)
    if not sentences:
        marked = _with_entities(title)
        return (marked if marked != title else f"{title} &amp; co"), ""
    if rng.random() < 0.3:
        title = _with_entities(title)
    marked = "".join(rng.choice(TAGS).format(_with_entities(sentence)) for sentence in sentences)
    return title, marked.strip().replace(" : ", "&nbsp;: ")


def near_copy(title: str, rng: random.Random) -> str:
    """The same product listed again: one trifle added."""
    return title + rng.choice((" !", " *", " ++", " (2)"))


def _with_entities(text: str) -> str:
    return "".join(ENTITIES.get(character, character) for character in text)


def _has_safe_accent(text: str) -> bool:
    return re.search("[éèêçôîûâ]", text) is not None


def _mojibake(text: str) -> str:
    """UTF-8 read as Latin-1, for accents that a repairer can bring back without doubt."""
    return re.sub("[éèêçôîûâ]", lambda match: match[0].encode().decode("latin-1"), text)
