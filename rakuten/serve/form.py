"""multipart/form-data, read as it comes: every part in memory, and bounded before it is kept."""

from collections.abc import AsyncIterable
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from rakuten.serve.problems import MALFORMED, TOO_LARGE, ProblemError, invalid
from rakuten.serve.settings import RequestLimits

TEXTS: Final = ("designation", "description", "explain")
PHOTO: Final = "image"
BYTES_A_CHAR: Final = 4  # of UTF-8, at most


class _Form:
    """Called back by the parser, part by part. What is wrong is raised, and ends the parsing."""

    def __init__(self, limits: RequestLimits):
        self.found: dict[str, bytearray] = {}
        self._limits = limits
        self._parts = 0
        self._name = ""
        self._header, self._value = bytearray(), bytearray()
        self._complete = False

    def on_part_begin(self) -> None:
        self._parts += 1
        self._name = ""
        if self._parts > self._limits.multipart_parts:
            detail = f"more than {self._limits.multipart_parts} parts"
            raise ProblemError(TOO_LARGE, detail, limit="multipart_parts")

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._header.clear()
        self._value.clear()

    def on_headers_finished(self) -> None:
        if self._name not in (*TEXTS, PHOTO):
            known = ", ".join((*TEXTS, PHOTO))
            raise invalid((self._name[:64] or "?", f"is no field of this form; there are {known}"))
        if self._name in self.found:
            raise invalid((self._name, "comes twice"))
        self.found[self._name] = bytearray()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        limits, kept = self._limits, self.found[self._name]
        most = limits.image_bytes if self._name == PHOTO else BYTES_A_CHAR * limits.text_chars
        if len(kept) + end - start > most:
            raise invalid((self._name, f"more than {most:,} bytes"), limit="form")
        kept += data[start:end]

    def on_end(self) -> None:
        self._complete = True

    @property
    def is_complete(self) -> bool:
        return self._complete


async def read_form(
    content_type: str, chunks: AsyncIterable[bytes], limits: RequestLimits
) -> dict[str, bytes]:
    """The fields of a form, each with its bytes.

    Raises:
        ProblemError: no well-formed form, a field that is none of ours or comes twice, or something too large.
    """
    _, options = parse_options_header(content_type)
    form = _Form(limits)
    names = [name for name in dir(form) if name.startswith("on_")]
    try:
        parser = MultipartParser(options.get(b"boundary", b""), {name: getattr(form, name) for name in names})  # type: ignore[arg-type]
        async for chunk in chunks:
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise ProblemError(MALFORMED, "no well-formed multipart/form-data") from error
    if not form.is_complete:
        raise ProblemError(MALFORMED, "the form ends before its closing boundary")
    return {name: bytes(value) for name, value in form.found.items()}
