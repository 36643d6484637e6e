"""Where Hydra looks for sweepers. The shell only: the command line's part is `rakuten.cli.sweep`, the study's
`rakuten.experiment.sweep.sweeper`. No `from __future__ import annotations` here, and no __init__.py beside it."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Runs the trials of an Optuna study; settings come from conf/hydra/sweeper/optuna.yaml."""

    def __init__(self, **settings: Any):
        """They are read from the composed config, where the command line has had its say."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> None:
        from rakuten.cli.sweep import plan
        from rakuten.config import TrainConfig
        from rakuten.console import people

        assert self.hydra_context is not None
        assert self.config is not None
        sweep, compose = plan(self.hydra_context.config_loader, self.config, arguments, TrainConfig)
        from rakuten.experiment.sweep.process import TrialProcesses

        processes = TrialProcesses(tracked=self.config.tracking.kind != "off")
        from rakuten.experiment.sweep.sweeper import (
            run_study,
        )  # seconds, while the processes' server imports the same

        print(run_study(sweep.name, sweep.settings, sweep.space, sweep.fixed, compose, processes, people()))
