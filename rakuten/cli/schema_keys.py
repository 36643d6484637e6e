"""The dotted keys that a schema of `rakuten.config` knows, and what kind of value each takes."""

from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class KeyType:
    """The types that a key's value may have, over all variants of the schema that hold the key."""

    types: frozenset[Any]

    @property
    def is_text(self) -> bool:
        """Whether a value is to be taken letter by letter, as it was typed."""
        return bool(self.types & {str, Path}) and self.types <= {str, Path, NoneType}

    @property
    def is_path(self) -> bool:
        return Path in self.types

    @property
    def is_number(self) -> bool:
        return bool(self.types & {int, float}) and not self.types & {bool, str}

    @property
    def is_open(self) -> bool:
        """Whether any key may stand below this one."""
        return any(get_origin(kind) is dict for kind in self.types)


def key_types(schema: type) -> dict[str, KeyType]:
    """Every key of a dataclass schema with those of the dataclasses inside, groups included, in its order."""
    found: dict[str, frozenset[Any]] = {}
    _walk(schema, "", found)
    return {key: KeyType(types) for key, types in found.items()}


def _walk(schema: type, prefix: str, found: dict[str, frozenset[Any]]) -> None:
    hints = get_type_hints(schema)
    for field in fields(schema):
        key, members = prefix + field.name, _members(hints[field.name])
        found[key] = found.get(key, frozenset()) | members
        for member in members:
            if is_dataclass(member) and isinstance(member, type):
                _walk(member, f"{key}.", found)


def _members(hint: Any) -> frozenset[Any]:
    return frozenset(get_args(hint)) if get_origin(hint) in (Union, UnionType) else frozenset([hint])
