"""The command line that all scripts share: Hydra's key=value grammar, checked before anything heavy is imported."""

from rakuten.cli.entry import CONF_DIR, compose, run

__all__ = ["CONF_DIR", "compose", "run"]
