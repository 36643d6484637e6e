"""A composed config -> a frozen dataclass of `rakuten.config`, or everything that is wrong with it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from rakuten.cli.environment import UnsetVariableError
from rakuten.cli.mistakes import Mistake, did_you_mean, gather, nearest, shown_value
from rakuten.cli.schema_keys import KeyType, key_types

Config = TypeVar("Config")
GROUP_EXPECTED = "a group of keys"
_MAX_SHOWN_CHARS = 120


def to_plain_dict(composed: DictConfig) -> tuple[dict[str, Any], list[Mistake]]:
    """Interpolations resolved and Hydra's own part left out; what cannot be resolved is left out and told."""
    mistakes: list[Mistake] = []
    plain = _plain(composed, "", mistakes)
    assert isinstance(plain, dict)
    plain.pop("hydra", None)
    return plain, mistakes


def validate(plain: Mapping[str, Any], schema: type[Config]) -> tuple[Config | None, list[Mistake]]:
    """The config, or None and its mistakes: wrong types, bad ranges, unknown and missing keys, broken rules."""
    kinds = key_types(schema)
    mistakes: list[Mistake] = []
    prepared = _prepared(plain, "", kinds, mistakes)
    try:
        config = TypeAdapter(schema).validate_python(prepared)
    except ValidationError as error:
        return None, mistakes + list(_translated(error, prepared, kinds))
    return (None, mistakes) if mistakes else (config, [])


def freeze(composed: DictConfig, schema: type[Config]) -> Config:
    """The config.

    Raises:
        ConfigError: naming every mistake.
    """
    plain, mistakes = to_plain_dict(composed)
    config, more = validate(plain, schema)
    if config is None or mistakes:
        raise gather([*mistakes, *more])
    return config


def _plain(node: Any, key: str, mistakes: list[Mistake]) -> Any:
    if OmegaConf.is_dict(node):
        return dict(_plain_items(node, key, mistakes)) if not node._is_none() else None
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _plain_items(node: DictConfig, key: str, mistakes: list[Mistake]) -> Iterator[tuple[Any, Any]]:
    for name in node:
        below = f"{key}.{name!s}" if key else str(name)
        if below == "hydra":
            continue
        if name == "_target_":
            expected = "values only: no config chooses what code runs"
            got = str(node._get_node(name))
            mistakes.append(Mistake(key=below, problem=f"`{below}` is forbidden", expected=expected, got=got))
        elif OmegaConf.is_missing(node, name):
            mistakes.append(Mistake(key=below, problem=f"`{below}` has no value", fix=f"give {below}=..."))
        else:
            try:
                yield name, _plain(node[name], below, mistakes)
            except OmegaConfBaseException as error:
                mistakes.append(_unresolved(below, str(node._get_node(name)), error))


def _unresolved(key: str, written: str, error: BaseException) -> Mistake:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UnsetVariableError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return Mistake(key=key, problem=f"`{key}`: {cause}", fix="set it in .env, after .env.example")
    problem = f"`{key}` cannot be resolved: {str(error).splitlines()[0]}"
    return Mistake(key=key, problem=problem, got=written)


def _prepared(node: Any, key: str, kinds: Mapping[str, KeyType], mistakes: list[Mistake]) -> Any:
    """Home folders expanded, and refused what pydantic takes too kindly."""
    if isinstance(node, dict):
        return {
            name: _prepared(value, f"{key}.{name}" if key else str(name), kinds, mistakes)
            for name, value in node.items()
        }
    kind = kinds.get(key)
    if kind is None:
        return node
    if isinstance(node, bool) and kind.is_number:  # pydantic reads true as 1
        mistakes.append(Mistake(key=key, problem=f"`{key}` is wrong", expected="a number", got=_shown(node)))
    if isinstance(node, str) and kind.is_path and node.startswith("~"):
        try:
            return str(Path(node).expanduser())
        except RuntimeError as error:
            mistakes.append(Mistake(key=key, problem=f"`{key}`: {error}", got=node))
    return node


def _translated(error: ValidationError, plain: Any, kinds: Mapping[str, KeyType]) -> Iterator[Mistake]:
    by_key: dict[str, list[Any]] = {}
    for detail in error.errors(include_url=False):
        by_key.setdefault(_real_key(detail["loc"], plain), []).append(detail)
    for key, details in by_key.items():
        yield _mistake(key, details, kinds)


def _real_key(loc: tuple[int | str, ...], node: Any) -> str:
    """The dotted key behind pydantic's location, in which names of union members stand too."""
    parts: list[str] = []
    for index, part in enumerate(loc):
        if isinstance(node, dict):
            # a dict's own keys may be numbers that pydantic writes as texts
            name = next((name for name in node if str(name) == str(part)), None)
            if name is None:
                if index == len(loc) - 1 and part != "[key]":
                    parts.append(str(part))
                continue
            node = node[name]
            parts.append(str(part))
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
            parts.append(str(part))
    return ".".join(parts)


def _mistake(key: str, details: list[Any], kinds: Mapping[str, KeyType]) -> Mistake:
    detail = details[0]
    kind, got = detail["type"], _shown(detail["input"])
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return Mistake(key=key, problem=f"`{key}` has no value", fix=f"give {key}=... or set it in its file")
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        parent = key.rpartition(".")[0]
        elsewhere = f"`{parent}` is of kind {detail['loc'][-2]}" if key in kinds else None
        return unknown_key(key, kinds, elsewhere)
    if kind.startswith("union_tag"):
        expected = detail.get("ctx", {}).get("expected_tags")
        got = _shown(detail["input"].get("kind")) if isinstance(detail["input"], dict) else got
        return Mistake(key=f"{key}.kind", problem=f"`{key}.kind` is wrong", expected=expected, got=got)
    if kind in ("dataclass_type", "model_attributes_type"):
        return Mistake(key=key, problem=f"`{key}` is wrong", expected=GROUP_EXPECTED, got=got)
    if kind == "value_error":
        return Mistake(key=key, problem=f"`{key}`: {detail['ctx']['error']}", got=_scalars(detail["input"]))
    expected = " or ".join(dict.fromkeys(_expected(each["msg"]) for each in details))
    return Mistake(key=key, problem=f"`{key}` is wrong", expected=expected, got=got)


def unknown_key(key: str, kinds: Mapping[str, KeyType], elsewhere: str | None = None) -> Mistake:
    """`elsewhere` says why a key of the schema is none of this config."""
    if elsewhere:
        return Mistake(key=key, problem=f"`{key}` does not apply here: {elsewhere}")
    near = nearest(key, kinds)
    parent = key.rpartition(".")[0]
    beside = [name for name in kinds if parent and name.rpartition(".")[0] == parent]
    expected = f"one of {', '.join(beside)}" if beside and not near else None
    return Mistake(key=key, problem=f"there is no key `{key}`", expected=expected, fix=did_you_mean(near))


def _expected(message: str) -> str:
    for start in ("Input should be ", "Value should be "):
        if message.startswith(start):
            return (
                message.removeprefix(start).partition(", unable to parse")[0].partition(", got a number")[0]
            )
    return message[:1].lower() + message[1:]


def _shown(value: Any) -> str:
    text = shown_value(value, repr)
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}..."


def _scalars(value: Any) -> str | None:
    """The plain values of a group, for a rule between them."""
    fields = getattr(value, "kwargs", value) or {}
    if not isinstance(fields, dict):
        return _shown(value)
    return (
        ", ".join(f"{k}={shown_value(v)}" for k, v in fields.items() if not isinstance(v, dict | list))
        or None
    )
