"""The pipeline as a Prefect flow: the stages of dvc.yaml one after the other, retried where that can help."""

import time
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_API_URL
from prefect.tasks import Task
from rich.console import Console
from rich.table import Table

from rakuten.config import PipelineConfig
from rakuten.errors import RakutenError
from rakuten.pipeline.stages import Done, StageError, push, repro, require_dag, stage_names


def run_pipeline(config: PipelineConfig, console: Console) -> list[Done]:
    """Run the flow now, or stay and run it as `config.schedule` says.

    Raises:
        StageError: a stage failed, in its own words.
        RakutenError: no dvc.yaml here, or a schedule without a Prefect server.
    """
    require_dag(config.dag)
    names = [name for name in stage_names() if not config.stages or name in config.stages]
    if not config.dag.generated:
        names = [name for name in names if name != "generate"]
    parameters: dict[str, Any] = {
        "stages": names,
        "force": config.force,
        "push": config.push,
        "retries": config.retries,
        "retry_delay_s": config.retry_delay_s,
    }
    if config.schedule is not None:
        if not PREFECT_API_URL.value():
            raise RakutenError(
                "a schedule needs a Prefect server",
                fix="prefect server start, and PREFECT_API_URL=http://127.0.0.1:4200/api in .env",
            )
        console.print(f"the pipeline waits for {config.schedule!r}; Ctrl-C ends it")
        pipeline.serve(name=config.dag.data, cron=config.schedule, parameters=parameters)
        return []
    done: list[Done] = pipeline(**parameters)
    console.print(_table(done))
    return done


@flow(name="rakuten", log_prints=False, persist_result=False)
def pipeline(
    stages: list[str], force: bool = False, push: bool = False, retries: int = 2, retry_delay_s: int = 30
) -> list[Done]:
    """`stages` in this order, each through DVC; then, with `push`, what DVC tracks goes to its remote."""
    settings: dict[str, Any] = {"retries": retries, "retry_delay_seconds": retry_delay_s}
    done = []
    try:
        for name in stages:
            done.append(_stage.with_options(name=name, **settings)(name, force))
        if push:
            _push.with_options(**settings)()
    finally:
        create_table_artifact(
            [{"stage": each.stage, "state": each.state, "seconds": round(each.seconds, 1)} for each in done],
            key="rakuten-stages",
            description="What became of each stage",
        )
    return done


def _may_pass(task: "Task[..., Any]", run: TaskRun, state: State[Any]) -> bool:
    """Whether a stage failed for a reason that may be gone: it was killed. A mistake would only be made again."""
    try:
        state.result(raise_on_failure=True)
    except StageError as error:
        return error.was_killed
    except RakutenError:
        return False
    except BaseException:
        return True
    return False


@task(retry_condition_fn=_may_pass, cache_policy=NO_CACHE)
def _stage(name: str, force: bool) -> Done:
    started = time.monotonic()
    ran = repro(name, force=force, show=get_run_logger().info)
    return Done(name, "ran" if ran else "current", time.monotonic() - started)


@task(name="push", cache_policy=NO_CACHE)
def _push() -> None:
    push(get_run_logger().info)


def _table(done: list[Done]) -> Table:
    table = Table(title="\npipeline", title_justify="left", title_style="bold")
    table.add_column("stage", no_wrap=True)
    table.add_column("")
    table.add_column("seconds", justify="right")
    for each in done:
        table.add_row(
            each.stage, each.state, f"{each.seconds:.1f}", style=None if each.state == "ran" else "dim"
        )
    return table
