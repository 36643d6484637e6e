"""Light text cleaning, the same in training, evaluation and service.

Light on purpose: on the full catalogue raw text scores 0.896 weighted F1 and heavy cleaning 0.891. What goes is
what says nothing: markup, entities, mojibake, stray whitespace. Case, accents and punctuation stay.
"""

import html
import re

import ftfy

_FTFY = ftfy.TextFixerConfig(unescape_html=False, uncurl_quotes=False, normalization="NFC")
# Comments, scripts and styles go with what they hold; of any other tag only the tag goes. "a < b" is text.
_OPENING = re.compile(r"<(!--|(?:script|style)\b[^<>]*>)", re.IGNORECASE)
_CLOSING = {
    "!": re.compile("-->"),
    "sc": re.compile(r"</script\s*>", re.IGNORECASE),
    "st": re.compile(r"</style\s*>", re.IGNORECASE),
}
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
        text = _TAG.sub(" ", _without_invisible(text))
    if not text.isascii():
        text = ftfy.fix_text(text, _FTFY)
    text = _SPACE.sub(" ", _without_control_characters(text)).strip()
    if len(text) > max_chars:
        text = text[: max_chars + 1].rsplit(" ", 1)[0][:max_chars].rstrip()
    return text


def _without_invisible(text: str) -> str:
    """One pass, where a single pattern would look for the end of each of ten thousand unclosed comments."""
    kept, at, unclosed = [], 0, set()
    for opening in _OPENING.finditer(text):
        kind = opening[1][:2].lower().strip("-")
        if opening.start() < at or kind in unclosed:
            continue
        closing = _CLOSING[kind].search(text, opening.end())
        if closing is None:
            unclosed.add(kind)
            continue
        kept.append(text[at : opening.start()])
        at = closing.end()
    return " ".join([*kept, text[at:]])


def _without_control_characters(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
