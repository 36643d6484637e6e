"""What .env says about the stack, for `make stack` and `make stack-check`."""

import os

from rakuten.cli.environment import FILE, load_environment
from rakuten.errors import ConfigError

REQUIRED = (
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_DB",
    "POSTGRES_PORT",
    "S3_BUCKET_NAME",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
    "S3_PORT",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_PORT",
    "MLFLOW_WORKERS",
    "MLFLOW_SERVER_ALLOWED_HOSTS",
    "SERVE_PORT",
    "SERVE_TARGETS",
    "PROMETHEUS_PORT",
    "ALERTMANAGER_PORT",
    "GRAFANA_PORT",
    "GRAFANA_PASSWORD",
)


def load() -> None:
    """Read .env into the environment.

    Raises:
        ConfigError: there is none, or it leaves out what is needed.
    """
    known = load_environment()
    missing = [name for name in REQUIRED if not os.environ.get(name)]
    if missing and not known:
        raise ConfigError(
            f"there is no {FILE} here: `make env` makes one for development, or copy .env.example to it and fill it in"
        )
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} missing or empty in {FILE}: .env.example says what they mean"
        )
    torn = [name for name in REQUIRED if name.endswith("_PORT") and not os.environ[name].isdecimal()]
    if torn:
        raise ConfigError(f"{', '.join(torn)} in {FILE}: a port is a number")


def address() -> str:
    """Where the stack's ports are opened."""
    return os.environ.get("STACK_ADDRESS") or "127.0.0.1"


def host() -> str:
    """Where they are found from this machine."""
    return "127.0.0.1" if address() == "0.0.0.0" else address()


def has(profile: str) -> bool:
    """Was this part of the stack chosen? Said as docker compose wants to hear it."""
    return profile in os.environ.get("COMPOSE_PROFILES", "").split(",")


def libpq() -> dict[str, str]:
    """PostgreSQL's place and credentials as all of its clients read them."""
    names = {"PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGDATABASE": "DB", "PGPORT": "PORT"}
    return {"PGHOST": host()} | {key: os.environ[f"POSTGRES_{name}"] for key, name in names.items()}
