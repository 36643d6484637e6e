"""A user's mistakes in the configuration, gathered so that one error can tell them all."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from rakuten.errors import ConfigError

_ALIKE = 0.7  # difflib's ratio from which two names count as alike


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One thing to mend; `key` is the dotted config key it is about, "" where there is none."""

    key: str
    problem: str
    expected: str | None = None
    got: str | None = None
    fix: str | None = None

    def to_error(self) -> ConfigError:
        return ConfigError(self.problem, expected=self.expected, got=self.got, fix=self.fix)


def gather(mistakes: Iterable[Mistake]) -> ConfigError:
    """One error out of at least one mistake, ordered by key, each key's repeated problem told once."""
    unique = {(mistake.key, mistake.problem): mistake for mistake in mistakes}
    ordered = sorted(unique.values(), key=lambda mistake: (mistake.key, mistake.problem))
    if len(ordered) == 1:
        return ordered[0].to_error()
    blocks = [f"{n}. {mistake.to_error()}".replace("\n", "\n ") for n, mistake in enumerate(ordered, 1)]
    return ConfigError("\n".join([f"{len(ordered)} mistakes in the configuration", *blocks]))


def nearest(word: str, candidates: Iterable[str], count: int = 3) -> list[str]:
    """The candidates most like `word`, best first; of dotted names the last parts must be alike."""

    def likeness(name: str, other: str) -> float:
        return SequenceMatcher(None, name, other).ratio()

    last = word.rpartition(".")[2]
    alike = [
        (likeness(last, name.rpartition(".")[2]) + likeness(word, name), name)
        for name in dict.fromkeys(candidates)
        if likeness(last, name.rpartition(".")[2]) >= _ALIKE
    ]
    best = max((score for score, _ in alike), default=0.0)
    ranked = sorted(alike, key=lambda scored: -scored[0])
    return [name for score, name in ranked if score > best - 0.5][:count]


def did_you_mean(candidates: Sequence[str]) -> str | None:
    return f"did you mean {' or '.join(candidates)}?" if candidates else None


def shown_value(value: object, show: Callable[[object], str] = str) -> str:
    """A value as YAML and the command line write it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else show(value)
