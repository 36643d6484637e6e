"""From a shell to a frozen config, and from an error back to the shell."""

import argparse
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console
from rich.text import Text

from rakuten.cli.check import Checked, check
from rakuten.cli.composer import Composer
from rakuten.cli.environment import load_environment
from rakuten.cli.help import print_help
from rakuten.cli.mistakes import Mistake, did_you_mean, nearest
from rakuten.cli.sweep import SWEEPER, long_form, misplaced, sweeper_of
from rakuten.cli.sweep_check import check_sweep
from rakuten.cli.validation import freeze
from rakuten.collector import collecting_rarely, leave_all
from rakuten.config import TrainConfig
from rakuten.errors import ConfigError, RakutenError

Config = TypeVar("Config")
CONF_DIR = Path(__file__).parents[2] / "conf"
_INTERRUPTED, _BROKEN_PIPE = 130, 141  # 128 + the signal's number, as shells report them
_ENVIRONMENT = {  # where it says nothing else itself
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # its 20 are too few for a busy machine
    "TOKENIZERS_PARALLELISM": "false",  # the fork warning of loaders' workers
}


def run(
    main: Callable[[Any], Any],
    schema: type[Any],
    config_name: str,
    *,
    config_dir: Path = CONF_DIR,
    together: str | None = None,
) -> None:
    """Run `main(config)` with the config that sys.argv and conf/<config_name>.yaml make; the whole of a script.

    `together`, as MODULE:NAME, is a context manager about all runs of a multirun that is no study: it is called with
    the first one's config and a console, and gives overrides that all of them get.

    Ends the process with 2 on a mistake in the configuration, with a RakutenError's own code, with 130 on
    Ctrl-C; any other exception passes with its traceback. Tracebacks of the former with `debug=true`.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    arguments = sys.argv[1:]
    debug = os.environ.get("HYDRA_FULL_ERROR") == "1" or any(
        each.lower() in ("debug=true", "debug=1") for each in arguments
    )
    try:
        load_environment()
        with collecting_rarely():
            _run(main, schema, config_name, config_dir, arguments, together)
        sys.stdout.flush()
    except RakutenError as error:
        if debug:
            traceback.print_exc()
        else:
            _print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted.", style="bold")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        # Python flushes stdout once more when it ends, and would complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_BROKEN_PIPE)
    finally:
        leave_all()


def compose(
    config_name: str,
    overrides: Sequence[str] = (),
    schema: type[Config] = TrainConfig,  # type: ignore[assignment]
    *,
    config_dir: Path = CONF_DIR,
) -> Config:
    """The config that the script of this name would get. Leaves no state behind.

    Raises:
        ConfigError: naming every mistake of the overrides and of the files they choose.
    """
    return check(Composer(config_name, config_dir), overrides, schema).config


def _run(
    main: Callable[[Any], Any],
    schema: type[Any],
    config_name: str,
    config_dir: Path,
    arguments: list[str],
    together: str | None,
) -> None:
    around: AbstractContextManager[list[str]] = nullcontext([])
    flags, mistakes = _parse_flags(arguments)
    config_dir = Path(flags.config_path).absolute() if flags.config_path else config_dir
    config_name = flags.config_name or config_name
    extra_dir = Path(flags.config_dir).absolute() if flags.config_dir else None
    for folder in (config_dir, extra_dir):
        if folder is not None and not folder.is_dir():
            raise ConfigError("the config folder is missing", expected="a folder", got=folder)
    if not (flags.hydra_help or flags.shell_completion):
        composer = Composer(config_name, config_dir, extra_dir)
        multirun = flags.multirun or "hydra.mode=MULTIRUN" in flags.overrides
        line = checked(composer, flags.overrides, schema, multirun, mistakes)
        if flags.help:
            print_help(main, composer, line.overrides)
            return
        flags.overrides = line.overrides
        if multirun and together and sweeper_of(composer, flags.overrides) != SWEEPER:
            module, _, name = together.partition(":")
            around = getattr(import_module(module), name)(line.config, Console(stderr=True, highlight=False))
    flags.config_path = flags.config_name = None
    with around as overrides:
        flags.overrides += overrides
        _run_checked(main, schema, flags, config_dir, config_name)


def checked(
    composer: Composer, overrides: list[str], schema: type[Config], multirun: bool, mistakes: list[Mistake]
) -> Checked[Config]:
    """A run's, a plain multirun's or a study's command line, each by its own rules."""
    long = [long_form(each) for each in overrides]
    if sweeper_of(composer, long) == SWEEPER:
        if multirun:
            return check_sweep(composer, long, schema, mistakes)
        mistakes = [*mistakes, Mistake(key="", problem="a study is many runs", fix="add -m to the command")]
    elif "sweep" in composer.groups():
        wrong = misplaced(overrides, composer.options("sweep"))
        mistakes = [*mistakes, *wrong]
        overrides = [each for each in overrides if each not in [mistake.got for mistake in wrong]]
    return check(composer, overrides, schema, multirun=multirun, mistakes=mistakes)


def _run_checked(
    main: Callable[[Any], Any],
    schema: type[Any],
    flags: argparse.Namespace,
    config_dir: Path,
    config_name: str,
) -> None:
    raised: list[Exception] = []

    @functools.wraps(main)
    def task(composed: DictConfig) -> Any:
        try:
            return main(freeze(composed, schema))
        except Exception as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # a sweeper may know what to do about it
            raised.append(error)  # Hydra would print lines of its own
            return None

    with _unchanged_errors():
        try:
            _run_hydra(flags, get_args_parser(), task, str(config_dir), config_name)
        except HydraException as error:
            raise ConfigError(str(error), got=str(error.__cause__) if error.__cause__ else None) from error
    if raised:
        raise raised[0]


def _parse_flags(arguments: list[str]) -> tuple[argparse.Namespace, list[Mistake]]:
    """Hydra's own switches, before, between or after the overrides."""
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    flags, unknown = parser.parse_known_intermixed_args(arguments)
    switches = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
    mistakes = [_unknown_switch(each, switches) for each in unknown]
    commands = [
        flags.run,
        flags.cfg is not None,
        flags.multirun,
        flags.shell_completion,
        flags.info is not None,
    ]
    if sum(commands) > 1:
        problem = "only one of --run, --multirun, --cfg, --info and --shell-completion can be asked for"
        mistakes.append(Mistake(key="", problem=problem))
    if flags.resolve and flags.cfg is None:
        mistakes.append(Mistake(key="", problem="--resolve goes with --cfg", fix="--cfg job --resolve"))
    return flags, mistakes


def _unknown_switch(typed: str, switches: list[str]) -> Mistake:
    name, equals, value = typed.partition("=")
    as_override = f"without dashes: {name.lstrip('-').replace('-', '_')}={value or '...'}" if equals else None
    fix = as_override or did_you_mean(nearest(name, switches))
    return Mistake(key=typed, problem=f"there is no switch `{name}`", expected="key=value", fix=fix)


def _refuse(message: str) -> NoReturn:
    raise ConfigError(message, fix="--hydra-help lists the switches, --help the keys")


@contextmanager
def _unchanged_errors() -> Iterator[None]:
    """Hydra prints exceptions and exits with 1, unless told by its environment to let them pass."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _print_error(error: RakutenError) -> None:
    first, *rest = str(error).splitlines() or [type(error).__name__]
    text = Text(first, style="bold red").append(
        "".join(f"\n{line}" for line in rest), style="not bold default"
    )
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)
