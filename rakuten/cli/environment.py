"""The file .env: variables for all that reads the environment (conf/, MLflow, boto3, DVC, PostgreSQL)."""

import os
from pathlib import Path

from dotenv.parser import parse_stream
from omegaconf import OmegaConf

from rakuten.errors import ConfigError

FILE = ".env"


class UnsetVariableError(LookupError):
    """A variable that a config names is missing, or empty."""


def load_environment(folder: Path = Path()) -> list[str]:
    """Set what `folder`/.env says and the environment does not say itself; the names that the file holds.

    Quotes, spaces, `#` and line ends as python-dotenv reads them; nothing in a value is expanded. Where the environment
    holds a variable that is empty, the file's value counts.

    Raises:
        ConfigError: it is not text, or a line of it is no NAME=VALUE. No value is shown.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8-sig") as stream:  # Windows editors begin a file with a mark
            bindings = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read", expected="lines NAME=VALUE in UTF-8", got=error
        ) from error
    torn = [str(each.original.line) for each in bindings if each.error or (each.key and each.value is None)]
    if torn:
        raise ConfigError(
            f"{path} cannot be understood at line {', '.join(torn)}",
            expected="NAME=VALUE; a value with a quote, a space or a # in it between quotes",
        )
    values = {each.key: each.value for each in bindings if each.key is not None and each.value is not None}
    for name, value in values.items():
        if not os.environ.get(name):
            os.environ[name] = value
    return list(values)


def required(name: str) -> str:
    """The variable's value, for configs as ${env:NAME}.

    Raises:
        UnsetVariableError: it is missing or empty.
    """
    if value := os.environ.get(name, "").strip():
        return value
    raise UnsetVariableError(
        f"the environment variable {name} is {'empty' if name in os.environ else 'missing'}"
    )


OmegaConf.register_new_resolver("env", required, replace=True)
