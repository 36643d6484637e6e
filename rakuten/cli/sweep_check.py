"""The check of a study's command line: every value that a trial could draw, before any trial runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from omegaconf import DictConfig

from rakuten.cli.check import Checked, examine, no_such_option
from rakuten.cli.composer import COMPOSE_ERRORS, Composer, explain
from rakuten.cli.item import with_value_at
from rakuten.cli.mistakes import Mistake, gather
from rakuten.cli.overrides import ParsedOverride
from rakuten.cli.schema_keys import KeyType, key_types
from rakuten.cli.space import read_spec
from rakuten.cli.sweep import PREFIX, SETTINGS, read_sweep, to_overrides
from rakuten.cli.validation import to_plain_dict, unknown_key, validate
from rakuten.config.space import Choice, Param, Space, Value, as_text, ends, first_trial

Config = TypeVar("Config")


def check_sweep(
    composer: Composer, arguments: Sequence[str], schema: type[Config], mistakes: Sequence[Mistake]
) -> Checked[Config]:
    """The command line that Hydra is to be given, and the config of the first trial.

    Each value of a choice and both ends of a range are composed and validated once, in a trial whose other parameters
    have their first values.

    Raises:
        ConfigError: naming every mistake.
    """
    kinds = key_types(schema)
    all_hydras = [each for each in arguments if each.lstrip("+~").startswith("hydra")]
    plain = [each for each in arguments if each not in all_hydras]
    hydras, found = _known_settings(all_hydras)
    composed = _compose_fixed(composer, plain, hydras, kinds)
    sweep, more = read_sweep(composed, plain, kinds, composer.options)
    found = [*mistakes, *found, *more]
    first = {} if sweep is None else first_trial(sweep.space)
    fixed = plain if sweep is None else sweep.fixed
    checked, more = examine(composer, [*fixed, *to_overrides(first, kinds), *hydras], schema)
    found += more
    if sweep is not None:
        found += _option_mistakes(composer, sweep.space)
    if sweep is not None and checked is not None and not found:
        found += _variant_mistakes(composer, checked.overrides, sweep.space, first, kinds, schema)
    if found or checked is None or sweep is None:
        raise gather(found)
    own = [each for each in checked.overrides if each.lstrip("+").partition("=")[0] not in first]
    swept = [f"{param.name}={param.text}" for param in sweep.space]
    return Checked([*own, *swept], checked.config)


def _compose_fixed(
    composer: Composer, plain: Sequence[str], hydras: Sequence[str], kinds: Mapping[str, KeyType]
) -> DictConfig:
    """The config without what is swept; where it does not compose, of as much as does: the rest is told later."""
    single = []
    for argument in plain:
        parsed = read_spec(argument, kinds)
        if isinstance(parsed, ParsedOverride) and not parsed.hydra.is_sweep_override():
            single.append(parsed.text)
    groups = [each for each in single if each.partition("=")[0] in ("sweep", "experiment")]
    for overrides in ([*single, *hydras], [*groups, *hydras]):
        try:
            return composer.compose(overrides)
        except COMPOSE_ERRORS as error:
            last = error
    raise gather([explain(last, PREFIX)]) from last


def _known_settings(hydras: Sequence[str]) -> tuple[list[str], list[Mistake]]:
    """Hydra's overrides less those that name a setting that no study has."""
    known = {f"{PREFIX}.{key}": kind for key, kind in SETTINGS.items()}
    kept, mistakes = [], []
    for argument in hydras:
        key = argument.partition("=")[0].lstrip("+~")
        if not key.startswith(f"{PREFIX}.") or key in known or key.startswith(f"{PREFIX}.params."):
            kept.append(argument)
        elif key != f"{PREFIX}._target_":
            mistakes.append(unknown_key(key, known))
    return kept, mistakes


def _option_mistakes(composer: Composer, space: Space) -> Iterator[Mistake]:
    groups = set(composer.groups())
    for param in space:
        if param.name in groups and isinstance(param, Choice):
            options = composer.options(param.name)
            # the first is checked with the first trial
            yield from (
                no_such_option(param.name, as_text(value), options)
                for value in param.values[1:]
                if as_text(value) not in options
            )


def _forcing(param: Param, value: Value, by_name: Mapping[str, Param]) -> dict[str, Value]:
    """What a trial must draw so that this parameter is drawn, with this value."""
    forced = {param.name: value}
    for condition in param.when:
        other = by_name[condition.name]
        wanted = next(each for each in ends(other) if as_text(each) in condition.values)
        forced |= _forcing(other, wanted, by_name)
    return forced


def _variant_mistakes(
    composer: Composer,
    overrides: Sequence[str],
    space: Space,
    first: Mapping[str, Value],
    kinds: Mapping[str, KeyType],
    schema: type[Any],
) -> list[Mistake]:
    """What is wrong with any other value than the first of each parameter."""
    fixed = [each for each in overrides if each.lstrip("+").partition("=")[0] not in first]
    by_name = {param.name: param for param in space}
    all_groups = set(composer.groups())
    contexts: dict[tuple[str, ...], tuple[dict[str, Any], list[Mistake]]] = {}
    found: dict[tuple[str, str], Mistake] = {}
    for param in space:
        for value in ends(param)[param.name in first :]:
            trial = first_trial(space, _forcing(param, value, by_name))
            groups = {name: each for name, each in trial.items() if name in all_groups}
            key = tuple(to_overrides(groups, kinds))
            if key not in contexts:
                contexts[key] = _context(composer, [*fixed, *key], param, value)
            plain, mistakes = contexts[key]
            mistakes = mistakes or _trial_mistakes(plain, trial, groups, param, kinds, schema)
            for mistake in mistakes:
                found.setdefault((mistake.key, mistake.problem), mistake)
    return list(found.values())


def _context(
    composer: Composer, overrides: Sequence[str], param: Param, value: Value
) -> tuple[dict[str, Any], list[Mistake]]:
    try:
        return to_plain_dict(composer.compose(overrides))
    except COMPOSE_ERRORS as error:
        return {}, [explain(error, param.name, f"{param.name}={as_text(value)}")]


def _trial_mistakes(
    plain: dict[str, Any],
    trial: Mapping[str, Value],
    groups: Mapping[str, Value],
    param: Param,
    kinds: Mapping[str, KeyType],
    schema: type[Any],
) -> list[Mistake]:
    for name, value in trial.items():
        if name in groups:
            continue
        try:
            plain = with_value_at(plain, name, value)
        except (KeyError, TypeError):
            values = " ".join(f"{each}={as_text(trial[each])}" for each in groups)
            fix = f"draw it only where it applies: {name}=tag('GROUP=OPTION', ...)" if groups else None
            if name not in kinds:
                return [unknown_key(name, kinds)]
            return [Mistake(key=name, problem=f"`{name}` does not apply with {values}", fix=fix)]
    got = f"{param.name}={as_text(trial[param.name])}"
    return [replace(each, got=each.got or got) for each in validate(plain, schema)[1]]
