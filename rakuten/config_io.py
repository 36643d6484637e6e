"""A frozen config -> plain values, for trackers and files. Needs neither Hydra nor OmegaConf."""

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

Scalar = str | int | float | bool | None


def to_plain(config: Any) -> Any:
    """Dataclasses as dicts, tuples as lists, paths as strings; `config` may be any part of a config."""
    if is_dataclass(config):
        return {field.name: to_plain(getattr(config, field.name)) for field in fields(config)}
    if isinstance(config, dict):
        return {key: to_plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_plain(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def to_flat_dict(config: Any) -> dict[str, Scalar]:
    """Dotted key -> value of every leaf; a list is one leaf, written as JSON; an empty dict has none."""
    return dict(_leaves(to_plain(config), ""))


def to_yaml(config: Any) -> str:
    """YAML in the schema's order, that both OmegaConf and PyYAML read back to the same values."""
    text: str = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True, width=110)
    return text


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, Scalar]]:
    if not isinstance(node, dict):
        yield prefix, json.dumps(node, ensure_ascii=False) if isinstance(node, list) else node
        return
    for key, value in node.items():
        yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
