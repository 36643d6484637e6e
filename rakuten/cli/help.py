"""What a script says of itself with --help."""

import sys
from collections.abc import Callable
from inspect import cleandoc
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rakuten.cli.composer import Composer, comment_of
from rakuten.cli.mistakes import shown_value
from rakuten.cli.overrides import is_sweep
from rakuten.cli.sweep import SHORT_GROUPS, SHORT_KEYS, SWEEPER

# Those that people change most, where a script has them; a script's own top-level keys come first.
_COMMON_KEYS = (
    "data.root",
    "data.demo.num_products",
    "optim.lr",
    "trainer.max_epochs",
    "trainer.batch_size",
    "trainer.num_workers",
    "model.text.max_tokens",
    "model.image.image_px",
)


def print_help(main: Callable[[Any], Any], composer: Composer, overrides: list[str]) -> None:
    """The script's docstring, its groups and its keys with the values that the command line so far gives them."""
    swept = [each for each in overrides if is_sweep(each)]
    overrides = [each for each in overrides if each not in swept]
    composed = composer.compose(overrides)
    choices = {str(group): str(option) for group, option in composed.hydra.runtime.choices.items()}
    out = Console(highlight=False)
    summary, _, more = cleandoc(main.__globals__.get("__doc__") or main.__doc__ or "").partition("\n")
    out.print(Text(summary, style="bold"))
    out.print(Text(f"\nUsage: python {sys.argv[0]} [group=option] [key=value] [-m] [--cfg job]"))
    groups = [group for group in composer.groups() if group in choices]
    if groups:
        out.print(Text("\nGroups", style="bold"), _group_table(groups, choices, composer), sep="\n")
    out.print(Text("\nKeys", style="bold"), _key_table(composed, composer, overrides), sep="\n")
    if composed.hydra.sweeper._target_ == SWEEPER:
        out.print(Text("\nThe study", style="bold"), _study_table(composed, composer, overrides), sep="\n")
    if swept:
        out.print(Text("\nVaried", style="bold"), *(Text(f"  {each}") for each in swept), sep="\n")
    if more.strip():
        out.print(Text(f"\n{more.strip()}"), soft_wrap=True)
    out.print(
        Text("\nThe files behind all this: ").append(str(composer.dirs[-1]), style="cyan"), soft_wrap=True
    )
    out.print(
        "The whole config: --cfg job. A run per value: -m key=a,b. Switches of Hydra's own: --hydra-help."
    )


def _group_table(groups: list[str], choices: dict[str, str], composer: Composer) -> Table:
    table = _table()
    for group in sorted(groups):
        options = Text()
        for option in composer.options(group):
            options.append(option, style="bold green" if option == choices[group] else "").append("  ")
        chosen = "" if choices[group] == "None" else f"={choices[group]}"
        table.add_row(Text(group, style="cyan").append(chosen, style="bold green"), options)
    return table


def _key_table(composed: Any, composer: Composer, overrides: list[str]) -> Table:
    table = _table()
    own = [key for key in composed if key != "hydra" and not OmegaConf.is_dict(composed._get_node(key))]
    for key in [*map(str, own), *_COMMON_KEYS]:
        value = OmegaConf.select(composed, key, throw_on_missing=False)
        if value is None and key not in own:
            continue
        shown = shown_value(value)
        table.add_row(
            Text(key, style="cyan").append(f"={shown}", style="default"), _comment(composer, key, overrides)
        )
    return table


def _study_table(composed: Any, composer: Composer, overrides: list[str]) -> Table:
    table = _table()
    for key in SHORT_KEYS:
        value = OmegaConf.select(composed, f"hydra.sweeper.{key}")
        comment = _comment(composer, f"hydra.sweeper.{key}", overrides)
        table.add_row(Text(key, style="cyan").append(f"={shown_value(value)}", style="default"), comment)
    for group in SHORT_GROUPS:
        options = "  ".join(composer.options(f"hydra/sweeper/{group}"))
        kind = composed.hydra.sweeper[group].kind
        table.add_row(Text(group, style="cyan").append(f"={kind}", style="bold green"), options)
    return table


def _comment(composer: Composer, key: str, overrides: list[str]) -> Text:
    place = composer.find_line(key, overrides)
    return Text(comment_of(place) if place and ":" in place else "", style="dim")


def _table() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    return table
