"""How the champion is served: conf/serve.yaml, and the environment above it."""

import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml
from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from rakuten.errors import ConfigError

CONFIG = Path("conf/serve.yaml")
PREFIX = "RAKUTEN_SERVE_"
NESTED = "__"
KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}:[0-9a-f]{64}")  # an entry of api_keys


class RequestLimits(BaseModel):
    """What a request may be, checked before anything is buffered or decoded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    head_bytes: int = Field(ge=1_000)
    body_bytes: int = Field(ge=1_000)
    buffered_bytes: int = Field(ge=1_000)
    text_chars: int = Field(ge=1)
    image_bytes: int = Field(ge=1_000)
    image_pixels: int = Field(ge=1_000)
    image_pixels_whole: int = Field(ge=1_000)
    json_depth: int = Field(ge=3)
    items: int = Field(ge=1)
    multipart_parts: int = Field(ge=3)
    receive_s: float = Field(gt=0)
    answer_s: float = Field(gt=0)
    connections: int = Field(ge=1)


class ServeSettings(BaseSettings):
    """Each value's meaning stands beside it in conf/serve.yaml."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        env_file=".env",
        yaml_file=CONFIG,
        yaml_file_encoding="utf-8",
        extra="ignore",  # .env holds others' variables too; _unknown finds what is ours and misspelt
        frozen=True,
    )

    coverage: float = Field(gt=0, le=1)
    abstain_below: float = Field(ge=0, le=1)
    top_k: int = Field(ge=1)

    champion: str
    registered_model: str
    poll_s: float = Field(gt=0)
    served_dir: Path
    max_bundle_bytes: int = Field(ge=1_000)
    shadow: Path | None
    shadow_share: float = Field(ge=0, le=1)

    workers: int = Field(ge=1)
    runtime: Literal["auto", "torch", "onnx", "onnx-int8"]
    compile: bool
    threads: int = Field(ge=0)
    runners: int = Field(ge=1)
    token_budget: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    latency_target_ms: float = Field(gt=0)
    cache_size: int = Field(ge=0)

    limits: RequestLimits

    api_keys: str
    rate_limit: float = Field(ge=0)
    rate_burst: int = Field(ge=1)

    drain_s: float = Field(ge=0)
    graceful_s: float = Field(gt=0)

    log: str
    log_texts: bool
    log_images: bool
    log_days: float | None = Field(gt=0)
    log_product_days: float | None = Field(gt=0)

    @field_validator("api_keys")
    @classmethod
    def _keys_are_hashes(cls, value: str) -> str:
        wrong = [str(i) for i, each in enumerate(split_keys(value), 1) if not KEY.fullmatch(each)]
        names = [each.partition(":")[0] for each in split_keys(value)]
        if wrong:  # which one, never what: somebody may have put the key itself there
            raise ValueError(
                f"entry {', '.join(wrong)} is not NAME:SHA256; python -m rakuten.serve.keys NAME"
            )
        if len(set(names)) < len(names):
            raise ValueError("two entries have one name")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, YamlConfigSettingsSource(settings_cls)


def split_keys(api_keys: str) -> list[str]:
    """The entries NAME:SHA256 of a list of API keys."""
    return [each.strip() for each in api_keys.split(",") if each.strip()]


def load_settings(**changes: object) -> ServeSettings:
    """
    Raises:
        ConfigError: all that is missing, unknown or out of range, in one error.
    """
    if not CONFIG.is_file():
        raise ConfigError(
            f"there is no {CONFIG} here", expected="the repository's root, or a bento's", got=Path.cwd()
        )
    mistakes = _unknown()
    settings = None
    try:
        settings = ServeSettings(**changes)  # type: ignore[arg-type]
    except ValidationError as error:
        # Never what was given: it may be a key.
        told = [each for each in error.errors() if each["type"] != "extra_forbidden"]  # by _unknown
        mistakes += [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in told]
    except SettingsError as error:
        mistakes.append(str(error))
    if mistakes or settings is None:
        raise ConfigError(
            "the service's settings do not hold",
            got="; ".join(mistakes),
            fix=f"see {CONFIG}; from outside {PREFIX}NAME, {PREFIX}LIMITS{NESTED}NAME",
        )
    return settings


def _unknown() -> list[str]:
    """Keys of the file and of the environment that mean nothing, each with the nearest one that does."""
    try:
        file = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{CONFIG} is no YAML", got=str(error).replace("\n", " ")) from error
    if not isinstance(file, Mapping):
        raise ConfigError(f"{CONFIG} holds no settings", expected="key: value")
    keys, limits = set(ServeSettings.model_fields), set(RequestLimits.model_fields)
    found = _strangers(file, keys)
    if isinstance(file.get("limits"), Mapping):
        found += _strangers(file["limits"], limits, "limits.")
    known = {PREFIX + key.upper() for key in keys}
    known |= {f"{PREFIX}LIMITS{NESTED}{key.upper()}" for key in limits}
    given = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    return found + _strangers((name for name in given if name.startswith(PREFIX)), known)


def _strangers(names: Iterable[Any], known: set[str], prefix: str = "") -> list[str]:
    found = []
    for name in sorted({str(each) for each in names} - known):
        near = get_close_matches(name, known, n=1)
        found.append(f"{prefix}{name} is unknown" + (f", did you mean {prefix}{near[0]}?" if near else ""))
    return found
