"""One command line argument -> one override in Hydra's grammar, with paths and texts meant as they were typed.

Hydra's grammar refuses accents, parentheses, quotes and much else unless they are quoted inside the shell's
own quotes. Here such values are quoted for the user; whatever Hydra reads as the user meant it stays untouched.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString
from hydra.errors import HydraException

from rakuten.cli.mistakes import Mistake, did_you_mean, nearest
from rakuten.cli.schema_keys import KeyType

_PARSER = OverridesParser.create()
# A value inside a list, a dict or a sweep: a quoted one, else all up to the next delimiter.
_QUOTED = r"""\s*(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*(?=[\]},:)]|$)"""
_TEXT_INSIDE = {"[": re.compile(_QUOTED + r"|[^\[\],]+"), "{": re.compile(_QUOTED + r"|[^\[\]{}:,]+")}
_TEXT_IN_SWEEP = re.compile(_QUOTED + r"|[^(),]+")


@dataclass(frozen=True)
class ParsedOverride:
    """An override that Hydra's grammar accepts; `typed` is what the user wrote."""

    typed: str
    hydra: Override

    @property
    def key(self) -> str:
        """The dotted key or the group's name, without a leading + or ~ and without a package."""
        return self.hydra.key_or_group

    @property
    def text(self) -> str:
        """The argument that Hydra is to be given."""
        assert self.hydra.input_line is not None
        return self.hydra.input_line

    def as_change(self) -> "ParsedOverride":
        """The same override without its leading + or ++: the key is there already."""
        return ParsedOverride(self.typed, _parse(self.text.lstrip("+")))

    def as_addition(self) -> "ParsedOverride":
        """The same override with a leading ++: the schema knows the key, but no file sets it."""
        return ParsedOverride(self.typed, _parse(f"++{self.text.lstrip('+')}"))

    def with_value(self, value: str) -> "ParsedOverride":
        return ParsedOverride(self.typed, _parse(f"{self.hydra.get_key_element()}={value}"))

    def single_values(self) -> list["ParsedOverride"]:
        """The override once per value of an enumerated sweep, itself where it is none; [] for other sweeps."""
        if not self.hydra.is_sweep_override():
            return [self]
        if not isinstance(self.hydra.value(), ChoiceSweep):
            return []
        return [self.with_value(value) for value in self.hydra.sweep_string_iterator()]


def parse_override(typed: str, keys: Mapping[str, KeyType], *, multirun: bool) -> ParsedOverride | Mistake:
    """Read one argument such as `optim.lr=1e-3`.

    `keys` tells which keys hold texts and paths. With `multirun` a comma separates values of a sweep, else it
    is a letter like any other in a text. Returns what is wrong where even quoting does not help.
    """
    key, equals, value = typed.partition("=")
    name = key.lstrip("+~").partition("@")[0]
    if not equals and not key.startswith("~"):
        near = [f"{candidate}=..." for candidate in nearest(name, keys)]
        return Mistake(
            key=name, problem=f"`{typed}` is no override", expected="key=value", fix=did_you_mean(near)
        )
    if _try_parse(f"{key}=0") is None:
        fix = did_you_mean(nearest(name.strip(), keys))
        return Mistake(key=name, problem=f"`{key}` is no valid key", expected="dotted names", fix=fix)
    kind = keys.get(name)
    if kind is not None and kind.is_path and equals and not value:
        return Mistake(
            key=name, problem=f"`{name}` is empty", expected="a path", fix=_empty_path_fix(name, kind)
        )
    return _read(typed, key, name, value if equals else None, keys, multirun)


def is_sweep(line: str) -> bool:
    """Whether an argument that Hydra is given has several values."""
    return _parse(line).is_sweep_override()


def quote(text: str) -> str:
    """`text` such that Hydra reads it letter by letter."""
    return QuotedString(text, Quote.single).with_quotes()


def _read(
    typed: str, key: str, name: str, value: str | None, keys: Mapping[str, KeyType], multirun: bool
) -> ParsedOverride | Mistake:
    if value is None:
        return ParsedOverride(typed, _parse(typed))
    parent = next((p for p in _parents(name) if p in keys and keys[p].is_open), None)
    if parent is not None and not key.startswith("~"):
        # Hydra closes dicts to new keys, and takes the 10 of `codes.10` for a text: merge a dict instead.
        line = f"++{parent}={{{name.removeprefix(parent + '.')}: {_as_text(value, False, False)}}}"
    elif name in keys and keys[name].is_text:
        line = f"{key}={_as_text(value, keys[name].is_path, multirun)}"
    else:
        is_open = key == name and name in keys and keys[name].is_open
        line = f"{'++' if is_open else ''}{key}={_repaired(value)}"
    parsed = _try_parse(line)
    if parsed is None:
        problem = f"`{name}` has a value that cannot be read: brackets or quotes do not match"
        return Mistake(
            key=name, problem=problem, expected="a number, a text, [a, list] or {a: dict}", got=value
        )
    return ParsedOverride(typed, parsed)


def _as_text(value: str, is_path: bool, multirun: bool) -> str:
    """The value of a text key: as typed, unless it is one of Hydra's own constructs."""
    if not value or (is_path and _exists(value)):
        return value and quote(value)
    parsed = _try_parse(f"x={value}")
    if multirun and "," in value and (parsed is None or _is_simple_choice(parsed)):
        repaired = ",".join(_as_text(part, is_path, False) for part in value.split(","))
        return repaired if _try_parse(f"x={repaired}") else quote(value)
    if parsed is None or _is_simple_choice(parsed):
        return quote(value)
    element = parsed._value  # value() forgets whether there were quotes
    if isinstance(element, str):
        return value if element == value or "${" in value or "\\" in value else quote(value)
    return quote(value) if isinstance(element, bool | int | float) else value


def _repaired(value: str) -> str:
    """The value of any other key: quotes are put only around what the grammar refuses."""
    if _try_parse(f"x={value}") is not None:
        return value
    inside = _TEXT_INSIDE.get(value[:1], _TEXT_IN_SWEEP)
    repaired = inside.sub(lambda match: _quoted_if_refused(match.group()), value)
    if _try_parse(f"x={repaired}") is not None or value[:1] in _TEXT_INSIDE:
        return repaired
    return quote(value)


def _quoted_if_refused(text: str) -> str:
    return text if not text.strip() or _try_parse(f"x={text}") else quote(text.strip())


def _is_simple_choice(override: Override) -> bool:
    sweep = override.value()
    return isinstance(sweep, ChoiceSweep) and sweep.simple_form


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # name too long, no such home, a null byte
        return False


def _empty_path_fix(name: str, kind: KeyType) -> str:
    return f"{name}=null for none" if type(None) in kind.types else f"{name}=. for the current folder"


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _parse(line: str) -> Override:
    return _PARSER.parse_override(line)


def _try_parse(line: str) -> Override | None:
    try:
        return _parse(line)
    except HydraException:
        return None
