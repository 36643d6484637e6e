"""All mistakes of a command line at once, before Hydra runs and before anything heavy is imported.

Hydra stops at the first bad override. Here each override is looked at alone and the bad ones are set aside; the
rest is composed and validated; what that blames is set aside in its turn, until nothing new comes up.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from omegaconf import DictConfig

from rakuten.cli.composer import COMPOSE_ERRORS, Composer, apply_overrides, explain
from rakuten.cli.item import (
    Item,
    changed_item,
    descend,
    first_values,
    is_blamed,
    with_and_without_plus,
    with_value_at,
)
from rakuten.cli.mistakes import Mistake, did_you_mean, gather, nearest
from rakuten.cli.overrides import ParsedOverride, parse_override
from rakuten.cli.schema_keys import key_types
from rakuten.cli.validation import GROUP_EXPECTED, to_plain_dict, unknown_key, validate
from rakuten.errors import ConfigError

Config = TypeVar("Config")


@dataclass(frozen=True)
class Checked(Generic[Config]):
    """A command line without a mistake: what Hydra is to be given, and the config it makes (a sweep's first)."""

    overrides: list[str]
    config: Config


def check(
    composer: Composer,
    arguments: Sequence[str],
    schema: type[Config],
    *,
    multirun: bool = False,
    mistakes: Sequence[Mistake] = (),
) -> Checked[Config]:
    """Read, compose and validate a command line; `mistakes` are those found already.

    Raises:
        ConfigError: naming every mistake of the arguments and of the files they choose.
    """
    checked, found = examine(composer, arguments, schema, multirun=multirun)
    if checked is None or mistakes:
        raise gather([*mistakes, *found])
    return checked


def examine(
    composer: Composer, arguments: Sequence[str], schema: type[Config], *, multirun: bool = False
) -> tuple[Checked[Config] | None, list[Mistake]]:
    """The command line, or None and every mistake in it."""
    return _Check(composer, schema, multirun).run(arguments)


def no_such_option(group: str, name: str, options: Sequence[str]) -> Mistake:
    return Mistake(
        key=group.replace("/", "."),
        problem=f"group `{group}` has no option `{name}`",
        expected=f"one of {', '.join(options)}",
        fix=did_you_mean(nearest(name, options)),
    )


class _Check(Generic[Config]):
    def __init__(self, composer: Composer, schema: type[Config], multirun: bool):
        self.composer, self.schema, self.multirun = composer, schema, multirun
        self.kinds = key_types(schema)
        self.groups = list(composer.groups())
        self.mistakes: list[Mistake] = []
        self.guessed: list[str] = []  # groups of which a stand-in was taken for an unknown option

    def run(self, arguments: Sequence[str]) -> tuple[Checked[Config] | None, list[Mistake]]:
        items = [item for argument in arguments if (item := self._read(argument))]
        items = [item for item in map(self._checked_group, items) if item]
        try:
            composed, items = self._compose(items)
        except ConfigError:
            return None, self.mistakes
        items = [item for item in (self._checked_key(item, composed) for item in items) if item]
        config = self._validate_all(composed, items)
        if self.mistakes or config is None:
            return None, self.mistakes
        return Checked([item.override.text for item in items], config), []

    def _read(self, argument: str) -> Item | None:
        parsed = parse_override(argument, self.kinds, multirun=self.multirun)
        if isinstance(parsed, Mistake):
            self.mistakes.append(parsed)
            return None
        if parsed.hydra.is_sweep_override() and not self.multirun:
            fix = "add -m to run once per value; a list is written [a,b]"
            problem = f"`{parsed.key}` has several values"
            self.mistakes.append(
                Mistake(key=parsed.key, problem=problem, expected="one", got=argument, fix=fix)
            )
            return None
        return Item(parsed, parsed.single_values())

    # --- groups ---------------------------------------------------------------------------------------------

    def _is_group(self, item: Item) -> bool:
        return not item.is_hydras and ("/" in item.override.key or item.override.key in self.groups)

    def _checked_group(self, item: Item) -> Item | None:
        if not self._is_group(item):
            return item
        group = item.override.key
        if group not in self.groups:
            fix = did_you_mean(nearest(group, self.groups))
            self.mistakes.append(Mistake(key=item.dotted, problem=f"there is no group `{group}`", fix=fix))
            return None
        values = [value for each in item.values if (value := self._checked_option(each))]
        return replace(item, values=values) if values or not item.values else None

    def _checked_option(self, chosen: ParsedOverride) -> ParsedOverride | None:
        """The override itself where its option exists; else, to go on checking with, one with the nearest."""
        group, names = chosen.key, chosen.hydra.value()
        options = self.composer.options(group)
        for name in names if isinstance(names, list) else [names]:
            if name is None or str(name) in options or chosen.hydra.is_delete():
                continue
            close = nearest(str(name), options)
            self.guessed.append(group.replace("/", "."))
            self.mistakes.append(no_such_option(group, str(name), options))
            return chosen.with_value(close[0]) if close else None
        return chosen

    def _is_first(self, item: Item) -> bool:
        """Whether the override decides of what the config is composed, before values are set in it."""
        return self._is_group(item) or item.is_hydras

    def _compose(self, items: list[Item]) -> tuple[DictConfig, list[Item]]:
        """The config of the groups chosen, and all items as they compose, less those found to blame."""
        first = [item for item in items if self._is_first(item)]
        try:
            return self.composer.compose(first_values(first)), items
        except COMPOSE_ERRORS:
            pass  # some item is to blame: found below
        try:
            composed = self.composer.compose()
        except COMPOSE_ERRORS as error:
            self.mistakes.append(explain(error))
            raise gather(self.mistakes) from error
        kept: dict[int, Item] = {}
        for item in first:
            for variant in with_and_without_plus(item):
                try:
                    composed = self.composer.compose(first_values([*kept.values(), variant]))
                except COMPOSE_ERRORS as error:
                    mistake = explain(error, item.dotted, item.override.typed)
                else:
                    kept[id(item)] = variant
                    break
            else:
                self.mistakes.append(mistake)
        return composed, [kept.get(id(item), item) for item in items if id(item) in kept or item not in first]

    # --- keys -----------------------------------------------------------------------------------------------

    def _checked_key(self, item: Item, composed: DictConfig) -> Item | None:
        override, key = item.override, item.override.key
        if item.is_hydras or self._is_group(item):
            return item
        if "_target_" in key.split("."):
            expected = "values only: no config chooses what code runs"
            self.mistakes.append(Mistake(key=key, problem=f"`{key}` is forbidden", expected=expected))
            return None
        node, missing = descend(composed, key)
        if not missing and key in self.kinds:
            return changed_item(item, override.as_change()) if override.hydra.is_add() else item
        if not missing:
            return item
        if key not in self.kinds:
            self.mistakes.append(self._unknown(key))
            return None
        if node is not None and not override.hydra.is_delete():
            return changed_item(item, override.as_addition())
        if not any(key.startswith(f"{group}.") for group in self.guessed):
            self.mistakes.append(unknown_key(key, self.kinds, f"`{key.rpartition('.')[0]}` is null"))
        return None

    def _unknown(self, key: str) -> Mistake:
        if "." in key:
            return unknown_key(key, self.kinds)
        return replace(
            unknown_key(key, self.kinds), fix=did_you_mean(nearest(key, [*self.kinds, *self.groups]))
        )

    # --- values ---------------------------------------------------------------------------------------------

    def _validate_all(self, composed: DictConfig, items: list[Item]) -> Config | None:
        values = [item for item in items if not self._is_first(item)]
        dropped: list[Item] = []
        while True:
            left = [item for item in values if item not in dropped]
            plain, mistakes = self._with_values(composed, left)
            config, more = validate(plain, self.schema)
            new = self._add(mistakes + more, items, dropped)
            blamed = [item for item in left if is_blamed(item, new)]
            if not blamed:
                break
            dropped += blamed
        for item in items:
            for value in item.values[1:]:
                self._validate_sweep_value(item, value, items, left, plain)
        return config

    def _with_values(self, composed: DictConfig, values: list[Item]) -> tuple[dict[str, Any], list[Mistake]]:
        changed, mistakes = deepcopy(composed), []
        for item in values:
            try:
                apply_overrides(changed, [value.hydra for value in item.values[:1]])
            except COMPOSE_ERRORS as error:
                mistakes.append(explain(error, item.dotted, item.override.typed))
        plain, more = to_plain_dict(changed)
        return plain, mistakes + more

    def _validate_sweep_value(
        self, item: Item, value: ParsedOverride, items: list[Item], values: list[Item], plain: dict[str, Any]
    ) -> None:
        mistakes: list[Mistake] = []
        if self._is_group(item):
            composed, _ = self._compose(
                [replace(each, values=[value]) if each is item else each for each in items]
            )
            plain, mistakes = self._with_values(composed, values)
        elif item.is_hydras or "${" in value.text:
            return
        else:
            plain = with_value_at(plain, item.override.key, value.hydra.value())
        self._add(mistakes + validate(plain, self.schema)[1], [item], [])

    def _add(self, found: Iterable[Mistake], items: list[Item], dropped: list[Item]) -> list[Mistake]:
        """Keep what is new. A rule among fields one of which was set aside says nothing about what was typed."""
        known = {mistake.key for mistake in self.mistakes}
        shaken = {item.dotted.rpartition(".")[0] for item in dropped}
        new = {each.key: each for each in reversed(list(found)) if each.key not in known | shaken}
        groups = first_values(item for item in items if self._is_group(item))
        for key, mistake in new.items():
            if key.replace(".", "/") in self.groups and mistake.expected == GROUP_EXPECTED:
                new[key] = mistake = replace(mistake, fix=self._group_fix(key.replace(".", "/")))
            if not any(is_blamed(item, [mistake]) for item in items if not self._is_group(item)):
                place = self.composer.find_line(key, groups)
                new[key] = replace(mistake, problem=f"{place}: {mistake.problem}") if place else mistake
        self.mistakes += new.values()
        return list(new.values())

    def _group_fix(self, group: str) -> str:
        return f"choose one of its options: {group}={'|'.join(self.composer.options(group))}"
