"""The watch as a Prefect flow: look, record, and, only where people said so, train and let the gate decide.

A look that fails, fails the flow; drift does not. The settings hold addresses with passwords, so they reach the flow's
process through its environment: what is a flow's parameter can be read on Prefect's pages.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_API_URL
from prefect.tasks import Task
from pydantic import TypeAdapter
from rich.console import Console

from rakuten.config import WatchConfig
from rakuten.console import people
from rakuten.errors import RakutenError
from rakuten.monitor.job import LogAwayError
from rakuten.monitor.retraining import ROLLBACK, note_training
from rakuten.pipeline.retrain import Retrained, TooFewLabelsError, require_new_labels, train_and_judge
from rakuten.pipeline.watch import Told, look_and_tell, show
from rakuten.pipeline.watch_record import record

RETRIES: Final = (3, 30)  # while the log's database is away: tries, seconds between them
_VARIABLE: Final = "RAKUTEN_WATCH"
_SETTINGS: Final = TypeAdapter(WatchConfig)


def run_flow(config: WatchConfig, console: Console) -> Told | None:
    """Run the flow now, or stay and run it as `config.schedule` says; then None.

    Raises:
        RakutenError: the look failed, the training did, or a schedule has no Prefect server.
    """
    if config.schedule is not None and not PREFECT_API_URL.value():
        raise RakutenError(
            "a schedule needs a Prefect server",
            fix="prefect server start, and PREFECT_API_URL=http://127.0.0.1:4200/api in .env",
        )
    with _given(config):
        if config.schedule is not None:
            console.print(f"the watch waits for {config.schedule!r}; Ctrl-C ends it")
            watch_flow.serve(name=config.registered_model, cron=config.schedule)
            return None
        told, retrained = watch_flow()
    show(config, told, console)
    if config.retrain and not config.json:
        console.print(f"  {retrained}", markup=False, soft_wrap=True)
    return told


@flow(name="rakuten-watch", log_prints=False, persist_result=False)
def watch_flow() -> tuple[Told, str]:
    """What was found, and what came of training again, in a line."""
    config = _SETTINGS.validate_json(os.environ[_VARIABLE])
    told = _look(config)
    create_table_artifact(
        _rows(told),
        key="rakuten-drift",
        description=f"{_headline(told)}: {'; '.join(told.look.decision.reasons)}",
    )
    _record(config, told)
    return told, _retrain(config, told)


def _may_pass(task: "Task[..., Any]", run: TaskRun, state: State[Any]) -> bool:
    """Whether waiting may help."""
    try:
        state.result(raise_on_failure=True)
    except LogAwayError:
        return True
    except BaseException:
        return False
    return False


@task(
    name="look",
    retries=RETRIES[0],
    retry_delay_seconds=RETRIES[1],
    retry_condition_fn=_may_pass,
    cache_policy=NO_CACHE,
)
def _look(config: WatchConfig) -> Told:
    told = look_and_tell(config)
    logger = get_run_logger()
    logger.info(_headline(told))
    for reason in told.look.decision.reasons:
        logger.info(reason)
    return told


@task(name="record", cache_policy=NO_CACHE)
def _record(config: WatchConfig, told: Told) -> None:
    run_id = record(config, told, people())
    get_run_logger().info("MLflow's run %s in the experiment %s", run_id, config.tracking.experiment)


def _retrain(config: WatchConfig, told: Told) -> str:
    """Whatever it says, no failure: a schedule that fails every morning for want of labels is not read."""
    logger = get_run_logger()
    if not config.retrain:
        return "nothing is trained without retrain=true"
    if told.proposal is None or not told.look.decision.retrain:
        instead = f"; the release before: {ROLLBACK}" if told.look.decision.kind == "collapse" else ""
        said = f"nothing is trained: no drift alarm asks for it{instead}"
    else:
        try:
            require_new_labels(config, told.look.watched.version)
            done: Retrained = _train(config)
        except TooFewLabelsError as error:
            said = str(error)
        else:
            note_training(told.proposal, asdict(done))
            said = f"{done.bundle} is {done.verdict} by the gate" + (
                f"\n{done.reasons}" if done.reasons else ""
            )
    logger.info(said)
    return said


@task(name="train and judge", cache_policy=NO_CACHE)
def _train(config: WatchConfig) -> Retrained:
    return train_and_judge(config, get_run_logger().info)


@contextmanager
def _given(config: WatchConfig) -> Iterator[None]:
    os.environ[_VARIABLE] = _SETTINGS.dump_json(config).decode()
    try:
        yield
    finally:
        del os.environ[_VARIABLE]


def _headline(told: Told) -> str:
    look = told.look
    return f"version {look.watched.version}, {len(look.windows[-1]):,} products: {look.decision.kind}, {look.decision.severity}"


def _rows(told: Told) -> list[dict[str, Any]]:
    return [
        {
            "test": each.name,
            "state": each.state,
            "p": each.p_adjusted,
            "effect": each.effect,
            "products": each.n,
            "what changed": each.text,
        }
        for each in told.look.reports[0].results
    ]
