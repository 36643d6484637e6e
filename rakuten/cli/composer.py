"""Hydra's composition of conf/ without its global state: usable repeatedly and inside a running Hydra job."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.default_element import ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from rakuten.cli.mistakes import Mistake

# All that Hydra, OmegaConf and PyYAML raise at a file or an override that they cannot take.
COMPOSE_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError, ValueError)
HYDRA_VERSION_BASE = "1.3"


class Composer:
    """The config files that one command line can choose from."""

    def __init__(self, config_name: str, config_dir: Path, extra_dir: Path | None = None):
        setbase(HYDRA_VERSION_BASE)
        setup_globals()
        self.config_name = config_name
        self.dirs = [path for path in (extra_dir, config_dir) if path is not None]  # first found is taken
        search_path = create_config_search_path(str(config_dir))
        if extra_dir is not None:
            query = SearchPathQuery(provider="schema")
            search_path.prepend("command-line", f"file://{extra_dir}", query)
        self.loader = ConfigLoaderImpl(search_path)
        self._known_defaults: dict[tuple[str, ...], list[ResultDefault]] = {}

    def compose(self, overrides: Iterable[str] = ()) -> DictConfig:
        """The config with Hydra's own part under `hydra`. Raises one of COMPOSE_ERRORS."""
        return self.loader.load_configuration(
            self.config_name, list(overrides), run_mode=RunMode.RUN, from_shell=False
        )

    def groups(self, parent: str = "") -> Iterator[str]:
        """Every group of ours, nested ones as model/text."""
        for name in self.loader.list_groups(parent):
            group = f"{parent}/{name}" if parent else name
            if group != "hydra":
                yield group
                yield from self.groups(group)

    def options(self, group: str) -> list[str]:
        return self.loader.get_group_options(group, results_filter=ObjectType.CONFIG)

    def find_line(self, key: str, overrides: Sequence[str] = ()) -> str | None:
        """Where a key is set, as file:line, or the file where it should be; None where no file is in charge."""
        defaults = self._defaults(tuple(overrides))
        in_charge: tuple[int, Path] | None = None
        for default in reversed(defaults):
            path, parts = self.file_of(default), _below(key, default.package or "")
            if path is None or parts is None:
                continue
            line = _line_of(path, parts)
            if line:
                return f"{_relative(path)}:{line}"
            if in_charge is None or len(parts) < in_charge[0]:
                in_charge = len(parts), path
        return str(_relative(in_charge[1])) if in_charge else None

    def _defaults(self, overrides: tuple[str, ...]) -> list[ResultDefault]:
        """The files that are composed, in that order; asked for once per key of the help, so kept."""
        if overrides not in self._known_defaults:
            found = self.loader.compute_defaults_list(self.config_name, list(overrides), RunMode.RUN)
            self._known_defaults[overrides] = list(found.defaults)
        return self._known_defaults[overrides]

    def file_of(self, default: ResultDefault) -> Path | None:
        candidates = (folder / f"{default.config_path}.yaml" for folder in self.dirs)
        return next((path for path in candidates if path.is_file()), None)


def apply_overrides(composed: DictConfig, overrides: list[Override]) -> None:
    """Set values in a composed config, as Hydra does last. Raises one of COMPOSE_ERRORS."""
    ConfigLoaderImpl._apply_overrides_to_config(overrides, composed)


def explain(error: Exception, key: str = "", typed: str | None = None) -> Mistake:
    """What a failed composition says, in words of ours; `typed` is the override that brought it about."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        where = f"{_relative(Path(mark.name))}:{mark.line + 1}"
        return Mistake(key=key, problem=f"{where} is not valid YAML: {error.problem}", got=typed)
    if isinstance(error, MissingConfigException):
        head, _, options = str(error).partition("\n\nAvailable options in ")
        return Mistake(key=key, problem=head.splitlines()[0], expected=_option_names(options), got=typed)
    cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else None
    words = [
        str(text).strip().splitlines()[0] for text in (error, cause) if text is not None and str(text).strip()
    ]
    return Mistake(key=key, problem=": ".join(words) or type(error).__name__, got=typed)


def _option_names(listing: str) -> str | None:
    names = [line.strip() for line in listing.splitlines()[1:] if line.startswith("\t")]
    return f"one of {', '.join(names)}" if names else None


def _below(key: str, package: str) -> list[str] | None:
    """The key's parts inside a file of that package, None where the key lies elsewhere."""
    parts, above = key.split("."), package.split(".") if package not in ("", "_global_") else []
    return parts[len(above) :] if parts[: len(above)] == above else None


def _line_of(path: Path, parts: list[str]) -> int | None:
    node = yaml.compose(path.read_text(encoding="utf-8"))
    line = None
    for part in parts:
        if not isinstance(node, yaml.MappingNode):
            return None
        pair = next((pair for pair in node.value if pair[0].value == part), None)
        if pair is None:
            return None
        line, node = pair[0].start_mark.line + 1, pair[1]
    return line


def comment_of(place: str) -> str:
    """The comment beside the value at file:line, "" for none."""
    path, _, line = place.rpartition(":")
    text = Path(path).read_text(encoding="utf-8").splitlines()[int(line) - 1]
    match = re.search(r"\s#\s*(.+)$", text)
    return match.group(1).strip() if match else ""


def _relative(path: Path) -> Path:
    cwd = Path.cwd()
    return path.relative_to(cwd) if path.is_relative_to(cwd) else path
