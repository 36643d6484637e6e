"""An Optuna study that outlives its workers: who holds which trial, which count, and what they may be proposed.

A trial stays RUNNING in the storage until some worker tells its end, so none is counted twice and none is lost. Who
works on it is said by a lease among its attributes; a worker of this machine that is gone loses it at once, one of
another machine when its lease has not been renewed for `lease_s` by the clock of whoever watches it: clocks of two
machines are never compared. All that must not happen twice happens under one lock of the database.
"""

import json
import logging
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import getpid
from pathlib import Path
from typing import Any, Literal, TypeVar

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from rakuten.config.space import Space, Value
from rakuten.config.sweep import SweepConfig
from rakuten.errors import RakutenError
from rakuten.experiment.runs import new_run_id, process_start
from rakuten.experiment.sweep.definition import refuse_another
from rakuten.experiment.sweep.samplers import build_pruner, build_sampler, draw
from rakuten.experiment.tracking.journal import without_password

LEASE, RUN, RESULT, REASON = "lease", "run", "result", "reason"  # a trial's attributes
DEFINITION, STARTS = "definition", "starts"  # a study's
_CONNECT_TIMEOUT_S = 5
_Wait = Literal["wait", "done"]
Answer = TypeVar("Answer")


class StorageAway(Exception):  # noqa: N818 - no error, a state
    """The storage cannot be reached just now. Whoever asked keeps what it had to say and asks again."""


@dataclass
class Claim:
    """A trial that this process works on."""

    trial: optuna.Trial
    number: int
    params: dict[str, Value]
    run_id: str  # the name of its run folder, on whatever machine
    taken_over: bool
    reported: set[int] = field(default_factory=set)  # epochs


@dataclass(frozen=True)
class Ending:
    """How a trial ended."""

    state: Literal["complete", "pruned", "failed"]
    values: Mapping[str, float]  # all that was measured, the objectives among it
    reason: str | None = None  # why it was pruned or failed


class Study:
    """One worker's view of a study; every method raises StorageAway while the storage cannot be reached."""

    def __init__(self, study: optuna.Study, settings: SweepConfig, space: Space):
        self.optuna, self._settings, self.space = study, settings, space
        self._me = {"host": socket.gethostname(), "pid": getpid(), "started": process_start(getpid())}
        self._mine: dict[int, Claim] = {}
        self._beat = 0
        self._seen: dict[
            int, tuple[object, float]
        ] = {}  # trial -> its lease, and since when that is unchanged

    @property
    def name(self) -> str:
        return self.optuna.study_name

    def trials(self) -> list[FrozenTrial]:
        return self.read(lambda study: study.get_trials(deepcopy=False))

    def front(self) -> list[FrozenTrial]:
        """The complete trials that no other beats in all objectives at once."""
        return self.read(lambda study: study.best_trials)

    def read(self, ask: Callable[[optuna.Study], Answer]) -> Answer:
        """Anything else that Optuna knows of the study."""
        with _away():
            return ask(self.optuna)

    def claim(self, num_trials: int) -> Claim | _Wait:
        """A trial to work on: one that its worker left behind, or a new one while fewer than `num_trials` exist.

        "wait" where others are at work on all that is left, "done" where nothing is.
        """
        with _away(), exclusive(self._settings.storage, self.name):
            trials = self.optuna.get_trials(deepcopy=False)
            running = [trial for trial in trials if trial.state == TrialState.RUNNING]
            for found in running:
                if found.number not in self._mine and self._is_abandoned(found):
                    return self._take(optuna.Trial(self.optuna, found._trial_id), found)
            finished = sum(trial.state.is_finished() for trial in trials)
            if finished + len(running) < num_trials:
                trial = self.optuna.ask()
                return self._take(trial, None)
            return "done" if finished >= num_trials else "wait"

    def report(self, claim: Claim, epoch: int, value: float) -> bool:
        """Note the score of an epoch; whether the trial is to be pruned."""
        if len(self._settings.objective) > 1:
            return False
        with _away():
            if epoch not in claim.reported:
                claim.trial.report(value, epoch)
                claim.reported.add(epoch)
            return claim.trial.should_prune()

    def tell(self, claim: Claim, ending: Ending) -> None:
        """Note the end of a trial; the first one to tell is believed."""
        with _away(), exclusive(self._settings.storage, self.name):
            now = self._frozen(claim)
            if not now.state.is_finished():
                claim.trial.set_user_attr(RESULT, dict(ending.values))
                if ending.reason is not None:
                    claim.trial.set_user_attr(REASON, ending.reason)
                if ending.state == "complete":
                    self.optuna.tell(claim.number, [ending.values[name] for name in self._settings.objective])
                else:
                    state = TrialState.PRUNED if ending.state == "pruned" else TrialState.FAIL
                    self.optuna.tell(claim.number, state=state)
        self.release(claim)

    def release(self, claim: Claim) -> None:
        """Work on the trial no more; as it is, others may take it over once the lease is stale."""
        self._mine.pop(claim.number, None)

    def renew(self) -> list[Claim]:
        """Renew the leases of this process; those trials that it has lost to others meanwhile."""
        self._beat += 1
        lost = []
        with _away(), exclusive(self._settings.storage, self.name):
            for claim in list(self._mine.values()):
                now = self._frozen(claim)
                lease = now.user_attrs.get(LEASE) or {}
                if now.state.is_finished() or any(lease.get(key) != value for key, value in self._me.items()):
                    lost.append(claim)
                    self.release(claim)
                else:
                    claim.trial.set_user_attr(LEASE, {**self._me, "beat": self._beat})
        return lost

    def _frozen(self, claim: Claim) -> FrozenTrial:
        return self.optuna._storage.get_trial(claim.trial._trial_id)

    def _take(self, trial: optuna.Trial, found: FrozenTrial | None) -> Claim:
        trial.set_user_attr(LEASE, {**self._me, "beat": self._beat})
        attributes = {} if found is None else found.user_attrs
        run_id = attributes.get(RUN) or new_run_id()
        trial.set_user_attr(RUN, run_id)
        reported = set() if found is None else set(found.intermediate_values)
        params = draw(trial, self.space)
        claim = Claim(trial, trial.number, params, run_id, found is not None, reported)
        self._mine[trial.number] = claim
        self._seen.pop(trial.number, None)
        return claim

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        lease = trial.user_attrs.get(LEASE)
        if lease is None:  # its worker died between making the trial and saying whose it is
            return True
        is_mine = all(lease.get(key) == value for key, value in self._me.items())
        if is_mine:  # given back
            return True
        if lease["host"] == self._me["host"] and process_start(lease["pid"]) != lease["started"]:
            return True
        before, since = self._seen.get(trial.number, (None, 0.0))
        if before != lease:
            self._seen[trial.number] = (lease, time.monotonic())
            return False
        return time.monotonic() - since > self._settings.lease_s


def open_study(
    settings: SweepConfig, space: Space, name: str, definition: Mapping[str, Any], max_epochs: int
) -> Study:
    """The study of this name, made where there is none.

    Raises:
        RakutenError: the storage cannot be opened, or holds a study of this name that varies or measures other things.
    """
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # the display says it better
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        with _away(), exclusive(settings.storage, name):
            storage = _storage(settings.storage)
            if name in optuna.get_all_study_names(storage):
                study = optuna.load_study(study_name=name, storage=storage)
            else:
                study = optuna.create_study(study_name=name, storage=storage, directions=settings.direction)
            stored = study.user_attrs.get(DEFINITION)
            if stored is None:
                study.set_metric_names(list(settings.objective))
                study.set_user_attr(STARTS, _starts(settings, space, storage))
                study.set_user_attr(DEFINITION, dict(definition))
            study.sampler = build_sampler(settings.sampler, space, study.user_attrs[STARTS])
            study.pruner = build_pruner(settings.pruner, max_epochs)
    except StorageAway as error:
        raise RakutenError(
            f"the storage {without_password(settings.storage)} cannot be opened",
            got=without_password(str(error)),
            fix="check that the database is there and lets you in, or hydra.sweeper.storage=sqlite:///FILE",
        ) from error
    if stored is not None:
        refuse_another(name, stored, json.loads(json.dumps(definition)))
    return Study(study, settings, space)


@contextmanager
def exclusive(storage: str, name: str) -> Iterator[None]:
    """One process at a time, on all machines; a process that dies inside lets go by dying."""
    if storage.startswith("sqlite:///"):
        path = Path(storage.removeprefix("sqlite:///")).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            yield
        return
    engine = create_engine(storage, poolclass=NullPool, connect_args=_connect_args(storage))
    with engine.begin() as connection:
        connection.execute(text("select pg_advisory_xact_lock(hashtext(:name))"), {"name": f"rakuten/{name}"})
        yield


def _storage(url: str) -> RDBStorage:
    return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, "connect_args": _connect_args(url)})


def _connect_args(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"timeout": 30}
    keepalive = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
    return {"connect_timeout": _CONNECT_TIMEOUT_S, "tcp_user_timeout": 20_000, **keepalive}


@contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, OSError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise StorageAway(lines[0]) from error


def _starts(settings: SweepConfig, space: Space, storage: RDBStorage) -> list[dict[str, Value]]:
    """The values of the first trials: those given, and of the best of each study named what this space holds too."""
    starts = []
    by_name = {param.name: param for param in space}
    for start in settings.warm_start:
        if "study" not in start:
            starts.append(dict(start))
            continue
        try:
            other = optuna.load_study(study_name=start["study"], storage=storage)
            best = other.best_trials if len(other.directions) > 1 else [other.best_trial]
        except (KeyError, ValueError) as error:
            known = ", ".join(sorted(optuna.get_all_study_names(storage))) or "none"
            raise RakutenError(
                f"warm start: no study {start['study']!r} with a finished trial",
                expected=f"one of {known}",
            ) from error
        starts += [
            {k: v for k, v in trial.params.items() if k in by_name and by_name[k].contains(v)}
            for trial in best
        ]
    return starts
