"""What a JSON text is made of, found out before it is parsed: a parser would make hundreds of bytes of one `{},`."""

from typing import Final

STRINGS: Final = 16  # of an item: three keys, three values, and room
STRUCTURE_BYTES: Final = 1024  # of an item: brackets, commas and indentation
ESCAPED: Final = 6  # bytes of a character written \u00e9
QUOTES: Final = 100_000  # of all, escaped ones too: the steps of the walk


BACKSLASHES: Final = 256  # in a row


class StructureError(ValueError):
    """A text whose structure no request of this service has, in words for whoever sent it."""


def check_structure(text: bytes | bytearray, *, items: int, depth: int, string_chars: int) -> None:
    """Walks from quote to quote, so that its time goes with the number of strings and not with their length.

    Raises:
        StructureError: more strings or structure than `items` products have, nested deeper than `depth`, or a string
            beyond ASCII with more than `string_chars` characters: one wide character makes four bytes of every other.
    """
    if text.count(b'"') > QUOTES:
        raise StructureError(f"more than {QUOTES:,} quotes")
    between: list[bytes | bytearray] = []
    size = at = 0
    for _ in range(STRINGS * (items + 1)):
        start = text.find(b'"', at)
        piece = text[at : len(text) if start < 0 else start]
        between.append(piece)
        size += len(piece)
        if size > STRUCTURE_BYTES * (items + 1):
            raise StructureError("more structure than a request has")
        if start < 0:
            break
        end = _end_of_string(text, start + 1)
        if end - start > ESCAPED * string_chars and not text[start:end].isascii():
            raise StructureError("a text that is too long")
        at = end + 1
    else:
        raise StructureError("more strings than a request has")
    _check_depth(b"".join(between), depth)


def _end_of_string(text: bytes | bytearray, at: int) -> int:
    """The index of the closing quote; of the text's end where there is none, which the parser will say."""
    while (end := text.find(b'"', at)) >= 0:
        before = text[max(at, end - BACKSLASHES) : end]
        backslashes = len(before) - len(before.rstrip(b"\\"))
        if backslashes == BACKSLASHES:
            raise StructureError(f"{BACKSLASHES} backslashes in a row")
        if backslashes % 2 == 0:
            return end
        at = end + 1
    return len(text)


def _check_depth(structure: bytes, most: int) -> None:
    depth = 0
    for byte in structure:
        if byte in b"[{":
            depth += 1
            if depth > most:
                raise StructureError(f"nested deeper than {most}")
        elif byte in b"]}":
            depth -= 1
