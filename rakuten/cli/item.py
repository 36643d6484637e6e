"""An override while it is checked, and what a check asks of it."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from rakuten.cli.mistakes import Mistake
from rakuten.cli.overrides import ParsedOverride


@dataclass(frozen=True)
class Item:
    """An override with the single values it stands for in a check: one, or each of a sweep, or none."""

    override: ParsedOverride
    values: list[ParsedOverride]

    @property
    def dotted(self) -> str:
        return self.override.key.replace("/", ".")

    @property
    def is_hydras(self) -> bool:
        return self.override.hydra.is_hydra_override()


def first_values(items: Iterable[Item]) -> list[str]:
    return [item.values[0].text for item in items if item.values]


def changed_item(item: Item, override: ParsedOverride) -> Item:
    return Item(override, override.single_values())


def with_and_without_plus(item: Item) -> list[Item]:
    """Whether a group stands in the defaults list already is nothing that a user needs to know."""
    override = item.override
    return [item, changed_item(item, override.as_change())] if override.hydra.is_add() else [item]


def descend(composed: DictConfig, key: str) -> tuple[Any, bool]:
    """The value at the key and False; or the group on the way to it that lacks the rest, None for a null, and True."""
    node: Any = composed
    for part in key.split("."):
        if not isinstance(node, DictConfig) or node._is_none() or part not in node:
            is_group = isinstance(node, DictConfig) and not node._is_none()
            return node if is_group else None, True
        node = node._get_node(part)
    return node, False


def is_blamed(item: Item, mistakes: Iterable[Mistake]) -> bool:
    return any(
        mistake.key == item.dotted
        or mistake.key.startswith(f"{item.dotted}.")
        or item.dotted.startswith(f"{mistake.key}.")
        for mistake in mistakes
    )


def with_value_at(plain: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of nested dicts with the value under a dotted key of theirs."""
    changed = deepcopy(plain)
    node = changed
    *parents, last = key.split(".")
    for part in parents:
        node = node[part]
    node[last] = value
    return changed
