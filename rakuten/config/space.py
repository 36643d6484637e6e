"""What a sweep varies, as plain data: read from Hydra's grammar by `rakuten.cli`, drawn from by the study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Condition:
    """A parameter or config group that must have one of these values."""

    name: str
    values: tuple[str, ...]

    def holds(self, params: Mapping[str, Value]) -> bool:
        return self.name in params and as_text(params[self.name]) in self.values


@dataclass(frozen=True)
class Choice:
    """One of several values; `name` is an override's key, a config group's as model/fusion."""

    name: str
    values: tuple[Value, ...]
    when: tuple[Condition, ...]
    text: str  # as it was typed

    def contains(self, value: Value) -> bool:
        """Whether a trial could have drawn this value."""
        return any(
            value == each and isinstance(value, bool) == isinstance(each, bool) for each in self.values
        )


@dataclass(frozen=True)
class Interval:
    """A number from `low` to `high`, both included."""

    name: str
    low: float
    high: float
    step: float | None
    log: bool
    is_int: bool
    when: tuple[Condition, ...]
    text: str  # as it was typed

    def contains(self, value: Value) -> bool:
        """Whether a trial could have drawn this value, steps aside."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (not self.is_int or value == int(value))

    def grid(self) -> tuple[Value, ...] | None:
        """All its values; None where they are not countable."""
        step = self.step or (1 if self.is_int and not self.log else None)
        if step is None:
            return None
        count = int((self.high - self.low) / step + 1e-9) + 1
        values = (self.low + index * step for index in range(count))
        return tuple(int(value) if self.is_int else value for value in values)


Param = Choice | Interval
Space = Sequence[Param]  # ordered: a parameter comes after those that its conditions name


def is_active(param: Param, params: Mapping[str, Value]) -> bool:
    """Whether a trial that has drawn `params` so far draws this one too."""
    return all(condition.holds(params) for condition in param.when)


def first_trial(space: Space, forced: Mapping[str, Value] | None = None) -> dict[str, Value]:
    """One trial of the space: what is forced, and of the rest what comes first."""
    params: dict[str, Value] = {}
    for param in space:
        if is_active(param, params):
            params[param.name] = (forced or {}).get(param.name, ends(param)[0])
    return params


def ends(param: Param) -> tuple[Value, ...]:
    """Every value of a choice, the lowest and the highest of an interval."""
    if isinstance(param, Choice):
        return param.values
    return (int(param.low), int(param.high)) if param.is_int else (param.low, param.high)


def as_text(value: Value) -> str:
    """A value as the command line writes it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
