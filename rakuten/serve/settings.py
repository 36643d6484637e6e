"""How the champion is served: conf/serve.yaml, and the environment above it."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from rakuten.errors import ConfigError

CONFIG = Path("conf/serve.yaml")


class RequestLimits(BaseModel):
    """What a request may be, checked before anything is buffered or decoded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_bytes: int = Field(ge=1_000)
    text_chars: int = Field(ge=1)
    image_bytes: int = Field(ge=1_000)
    image_pixels: int = Field(ge=1_000)
    json_depth: int = Field(ge=3)
    items: int = Field(ge=1)
    multipart_parts: int = Field(ge=3)
    receive_s: float = Field(gt=0)
    answer_s: float = Field(gt=0)
    connections: int = Field(ge=1)


class ServeSettings(BaseSettings):
    """Each value's meaning stands beside it in conf/serve.yaml."""

    model_config = SettingsConfigDict(
        env_prefix="RAKUTEN_SERVE_",
        env_nested_delimiter="__",
        env_file=".env",
        yaml_file=CONFIG,
        yaml_file_encoding="utf-8",
        extra="ignore",  # .env holds others' variables too
        frozen=True,
    )

    coverage: float = Field(gt=0, le=1)
    abstain_below: float = Field(ge=0, le=1)
    top_k: int = Field(ge=1)

    champion: str
    registered_model: str
    poll_s: float = Field(gt=0)
    shadow: Path | None
    shadow_share: float = Field(ge=0, le=1)

    runtime: Literal["auto", "torch", "onnx", "onnx-int8"]
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


def load_settings(**changes: object) -> ServeSettings:
    """
    Raises:
        ConfigError: all that is missing, unknown or out of range, in one error.
    """
    if not CONFIG.is_file():
        raise ConfigError(
            f"there is no {CONFIG} here", expected="the repository's root, or a bento's", got=Path.cwd()
        )
    try:
        return ServeSettings(**changes)  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(
            "the service's settings do not hold", got=wrong, fix=f"see {CONFIG} and RAKUTEN_SERVE_*"
        ) from error
