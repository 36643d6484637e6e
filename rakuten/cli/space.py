"""A search space in Hydra's grammar -> the parameters of a sweep.

The forms are those of Hydra's Optuna sweeper: choice(a,b), range(low,high,step), interval(low,high), int(...),
tag(log, ...). A range includes its end, as there. Two things differ: a number is drawn as the key's own type, so that
`optim.label_smoothing=interval(0,1)` is no integer; and a tag that holds a `=` is a condition:
tag('model/fusion=late', interval(0,1)) is drawn only where model/fusion is late.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, QuotedString, RangeSweep, Sweep
from hydra.errors import HydraException

from rakuten.cli.mistakes import Mistake, did_you_mean, nearest
from rakuten.cli.overrides import ParsedOverride, parse_override
from rakuten.cli.schema_keys import KeyType
from rakuten.config.space import Choice, Condition, Interval, Param, Space, Value, as_text

FORMS = "choice(a,b), range(low,high,step), interval(low,high), or one of them in tag(log, ...)"
_IS_SPEC = re.compile(r"\s*(choice|range|interval|tag|shuffle|sort|int|float|str|bool)\s*\(")
_PARSER = OverridesParser.create()


def is_spec(text: str) -> bool:
    """Whether a value means several, by the look of it: it may be one that the grammar refuses."""
    return _IS_SPEC.match(text) is not None


def read_spec(typed: str, kinds: Mapping[str, KeyType]) -> ParsedOverride | Mistake:
    """`name=spec` in Hydra's grammar, or why it cannot be read."""
    name, _, spec = typed.partition("=")
    if is_spec(spec):
        try:
            return ParsedOverride(typed, _PARSER.parse_override(f"{name}={spec}"))
        except HydraException as error:
            why = str(error).splitlines()[0].partition("': ")[2] or "brackets or quotes do not match"
            return Mistake(key=name, problem=f"`{name}`: {why}", expected=FORMS, got=spec)
    return parse_override(typed, kinds, multirun=True)


def to_param(parsed: ParsedOverride, kinds: Mapping[str, KeyType]) -> Param | Mistake:
    """The parameter that a sweep override describes, or what is wrong with it."""
    sweep = parsed.hydra.value()
    assert isinstance(sweep, Sweep)
    name, text = parsed.key, parsed.typed.partition("=")[2].strip()
    when, wrong = _conditions(name, sweep.tags)
    if wrong:
        return wrong
    log = "log" in sweep.tags
    if isinstance(sweep, ChoiceSweep):
        if log:
            fix = "tag(log, interval(low, high))"
            return Mistake(key=name, problem=f"`{name}`: a choice has no logarithm", got=text, fix=fix)
        values = tuple(_value(each) for each in sweep.list)
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            return Mistake(key=name, problem=f"`{name}` has the value {twice} twice", got=text)
        return Choice(name, values, when, text)
    return _number(name, text, sweep, kinds.get(name), when, log)


def _number(
    name: str, text: str, sweep: Sweep, kind: KeyType | None, when: tuple[Condition, ...], log: bool
) -> Param | Mistake:
    def wrong(problem: str, expected: str | None = None, fix: str | None = None) -> Mistake:
        return Mistake(key=name, problem=f"`{name}`: {problem}", expected=expected, got=text, fix=fix)

    if kind is not None and not kind.is_number:
        return wrong("is no number", "choice(a,b,...)")
    step = None
    if isinstance(sweep, RangeSweep):
        low, high, step = sweep.start, sweep.stop, sweep.step
    else:
        assert isinstance(sweep, IntervalSweep)
        low, high = sweep.start, sweep.end
    assert low is not None
    assert high is not None
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        return wrong("the range is empty", f"{FORMS.split(', or')[0]} with low < high, both finite")
    if step is not None and step <= 0:
        return wrong("a step must be greater than 0")
    if log and low <= 0:
        return wrong(
            "the logarithm of zero and of less does not exist",
            "a range above 0",
            "tag(log, interval(1e-4, 1e-1))",
        )
    if log and isinstance(sweep, RangeSweep):
        return wrong("steps and a logarithm do not go together", fix=f"tag(log, interval({low}, {high}))")
    wants_int = (kind is not None and int in kind.types and float not in kind.types) or (
        kind is None and all(isinstance(each, int) for each in (low, high))
    )
    if wants_int and any(each is not None and each != int(each) for each in (low, high, step)):
        return wrong("is a whole number", "whole numbers")
    return Interval(
        name, float(low), float(high), None if step is None else float(step), log, wants_int, when, text
    )


def _conditions(name: str, tags: Iterable[object]) -> tuple[tuple[Condition, ...], Mistake | None]:
    found = []
    for tag in sorted(str(tag.text if isinstance(tag, QuotedString) else tag) for tag in tags):
        other, equals, values = tag.partition("=")
        if equals:
            found.append(Condition(other.strip(), tuple(value.strip() for value in values.split("|"))))
        elif tag != "log":
            fix = did_you_mean(nearest(tag, ["log"]))
            problem = f"`{name}` has the unknown tag {tag}"
            expected = "log, or a condition such as 'model/fusion=late'"
            return (), Mistake(key=name, problem=problem, expected=expected, fix=fix)
    return tuple(found), None


def _value(element: object) -> Value:
    if isinstance(element, QuotedString):
        element = element.text
    if element is None or isinstance(element, str | int | float | bool):
        # the grammar has null for None only outside choice(); a typed null comes as a text
        return None if element == "null" else element
    return _written(element)


def _written(element: object) -> str:
    """A list or dict as the command line writes it."""
    if isinstance(element, list):
        return f"[{','.join(map(_written, element))}]"
    if isinstance(element, dict):
        return "{" + ",".join(f"{_written(key)}:{_written(value)}" for key, value in element.items()) + "}"
    if isinstance(element, QuotedString):
        return element.with_quotes()
    if element is None:
        return "null"
    return str(element).lower() if isinstance(element, bool) else str(element)


def ordered(
    params: Sequence[Param], fixed: Mapping[str, str], options: Callable[[str], Sequence[str]]
) -> tuple[Space, list[Mistake]]:
    """The parameters, each after those that its conditions name; conditions on what is fixed are decided here.

    `fixed` holds the values of keys and config groups that are not swept, `options` gives those of a group. A parameter
    whose condition can never hold is left out, and with it what hangs on it.
    """
    by_name = {param.name: param for param in params}
    mistakes = _clashes(list(by_name))
    mistakes += [
        wrong for p in params for c in p.when if (wrong := _wrong_condition(p, c, by_name, fixed, options))
    ]
    if mistakes:
        return [], mistakes
    graph = {param.name: [c.name for c in param.when if c.name in by_name] for param in params}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        names = " -> ".join(error.args[1])
        return [], [Mistake(key=names, problem=f"conditions go in a circle: {names}")]
    done: dict[str, Param] = {}
    for name in order:
        open_, possible = [], True
        for condition in by_name[name].when:
            other = done.get(condition.name)
            if isinstance(other, Choice):
                open_.append(condition)
                possible &= any(as_text(value) in condition.values for value in other.values)
            else:
                possible &= condition.name not in by_name and fixed[condition.name] in condition.values
        if possible:
            done[name] = replace(by_name[name], when=tuple(open_))
    return list(done.values()), []


def _wrong_condition(
    param: Param,
    condition: Condition,
    by_name: Mapping[str, Param],
    fixed: Mapping[str, str],
    options: Callable[[str], Sequence[str]],
) -> Mistake | None:
    def wrong(problem: str, expected: str | None = None, fix: str | None = None) -> Mistake:
        return Mistake(key=param.name, problem=f"`{param.name}`: {problem}", expected=expected, fix=fix)

    other = by_name.get(condition.name)
    group = next((name for name in by_name if condition.name.startswith(f"{name.replace('/', '.')}.")), None)
    if other is None and group is not None:
        return wrong(
            f"its condition names `{condition.name}`, which changes with `{group}`", f"one on `{group}`"
        )
    if other is None and condition.name not in fixed:
        fix = did_you_mean(nearest(condition.name, [*by_name, *fixed]))
        return wrong(f"its condition names `{condition.name}`, which there is not", fix=fix)
    if isinstance(other, Interval):
        return wrong(f"its condition names `{other.name}`, whose values are not listed", "a choice(...)")
    if isinstance(other, Choice):
        known = [as_text(value) for value in other.values]
        possible = {
            *known,
            *(options(other.name) if "/" in other.name else ()),
        }  # narrowed on the command line
        strange = [value for value in condition.values if value not in possible]
        if strange:
            return wrong(f"{condition.name} is never {strange[0]}", f"one of {', '.join(known)}")
    return None


def _clashes(names: Sequence[str]) -> list[Mistake]:
    """Two names for one thing: model/fusion and model.fusion, optim and optim.lr."""
    mistakes = []
    for name in names:
        for other in names:
            if name == other or "/" in other:
                continue
            dotted = name.replace("/", ".")
            if other == dotted or ("/" not in name and other.startswith(f"{name}.")):
                problem = f"`{name}` and `{other}` are both swept, and one overwrites the other"
                mistakes.append(Mistake(key=other, problem=problem, fix="sweep one of them"))
    return mistakes
