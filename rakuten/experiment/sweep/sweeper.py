"""A study's trials, each in a process of its own, until as many have ended as were asked for.

One loop speaks with all: it hands out trials, hears each epoch, tells the study, renews leases, and starts a process
that died again from its last checkpoint. What the storage cannot take while it is away is kept and told later, in
order; running trials notice nothing.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from rich.console import Console

from rakuten.config import TrainConfig
from rakuten.config.space import Space, Value, first_trial
from rakuten.config.sweep import SweepConfig
from rakuten.data.features import load_features
from rakuten.errors import RakutenError
from rakuten.experiment.device import num_gpus, prepare_torch
from rakuten.experiment.ownership import prepare_record, terminable
from rakuten.experiment.pruning import Trial
from rakuten.experiment.sweep.definition import define, study_name
from rakuten.experiment.sweep.display import SweepDisplay
from rakuten.experiment.sweep.process import TrialProcess, TrialProcesses
from rakuten.experiment.sweep.record import StudyRecord
from rakuten.experiment.sweep.samplers import num_trials
from rakuten.experiment.sweep.study import Claim, Ending, StorageAway, Study, open_study
from rakuten.experiment.sweep.trial import Job, Outcome, Report, halved
from rakuten.model.pretrained import require_weights

MAX_DEATHS = 5  # of a trial's process in a row, without an epoch between them
_POLL_S, _AWAY_S = 1.0, 5.0

Epoch = tuple[int, float]  # its number from 1, and its score
Compose = Callable[[Mapping[str, Value]], TrainConfig]


def run_study(
    name: str,
    settings: SweepConfig,
    space: Space,
    fixed: Sequence[str],
    compose: Compose,
    processes: TrialProcesses,
    console: Console,
) -> Path:
    """Run, or go on with, the study that these settings mean; the best trial's bundle.

    `name` is the sweep's, `fixed` the overrides that all trials share, `compose` makes a trial's config of its
    parameters.

    Raises:
        RakutenError: storage or tracking store cannot be reached, another study has the name, no trial completed.
    """
    base = compose(first_trial(space))
    require_weights(base.model)
    prepare_torch(base.trainer)
    prepare_record(base, console)
    fingerprint = load_features(base.data, base.model, console).fingerprint
    definition = define(settings, space, base, fingerprint)
    full_name = settings.study_name or study_name(name, base.data.name, definition, settings)
    study = open_study(settings, space, full_name, definition, base.trainer.max_epochs)
    record = StudyRecord(study, settings, base, fixed, console)
    with terminable(), record:
        _Sweeper(study, settings, space, compose, record, processes, console).run()
    return record.bundle


@dataclass
class _Running:
    """A trial and its process."""

    claim: Claim
    config: TrainConfig
    slot: int
    process: TrialProcess
    epoch: int = 0
    deaths: int = 0
    memory: str | None = None  # what was done about too little of it
    unsaid: list[Epoch] = field(default_factory=list)  # that the storage has not heard of
    spent: Mapping[str, float] = field(default_factory=dict)


class _Sweeper:
    def __init__(
        self,
        study: Study,
        settings: SweepConfig,
        space: Space,
        compose: Compose,
        record: StudyRecord,
        processes: TrialProcesses,
        console: Console,
    ):
        self._study, self._settings, self._compose, self._record = study, settings, compose, record
        self._console = console
        self._num_trials = num_trials(settings, space)
        self._gpus = num_gpus(record.base.trainer)
        self._slots = settings.n_jobs or self._gpus or len(os.sched_getaffinity(0))
        self._running: list[_Running] = []
        self._untold: list[tuple[Claim, Ending, list[Epoch]]] = []
        self._away_since: float | None = None
        self._shown = 0.0
        self._processes = processes

    def run(self) -> None:
        next_beat = 0.0
        self._console.print(
            f"study {self._study.name}: {self._num_trials} trials, {self._slots} at once", soft_wrap=True
        )
        with SweepDisplay(self._console, self._study.name, self._num_trials, self._settings) as self._display:
            try:
                while not self._fill() or self._running or self._untold:
                    self._listen()
                    self._catch_up()
                    if time.monotonic() >= next_beat:
                        self._renew()
                        next_beat = time.monotonic() + self._settings.lease_s / 4
                    self._show()
                self._show(now=True)
            finally:
                self._stop()

    def _fill(self) -> bool:
        """Start trials in what is free; whether the study has all that it was to have."""
        while len(self._running) < self._slots and not self._is_away:
            try:
                claim = self._study.claim(self._num_trials)
            except StorageAway as error:
                self._away(error)
                break
            if not isinstance(claim, Claim):
                return claim == "done"
            self._begin(claim)
        return False

    def _begin(self, claim: Claim) -> None:
        if claim.taken_over:
            self._display.say(f"[dim]trial {claim.number} goes on where its worker left it[/dim]")
        try:
            config = self._compose(claim.params)
        except RakutenError as error:
            self._end_unrun(claim, error.problem)
            return
        used = {running.slot for running in self._running}
        slot = next(slot for slot in range(self._slots) if slot not in used)
        self._running.append(_Running(claim, config, slot, self._start(claim, config, slot)))

    def _start(self, claim: Claim, config: TrainConfig, slot: int) -> TrialProcess:
        job = Job(
            config=config,
            trial=Trial(claim.run_id, self._study.name, claim.number, self._record.tags_of(claim)),
            log=self._record.folder / f"trial-{claim.number:03d}.log",
            gpu=slot % self._gpus if self._gpus > 1 else None,
        )
        return self._processes.start(job)

    def _listen(self) -> None:
        if not self._running:
            time.sleep(_POLL_S / 4)
            return
        wait([running.process.pipe for running in self._running], _POLL_S)
        for running in list(self._running):
            reports, is_over = running.process.hear()
            for report in reports:
                self._hear(running, report)
            if is_over:
                self._ended(running)

    def _hear(self, running: _Running, report: Report) -> None:
        if report.epoch > running.epoch:
            running.epoch, running.deaths = report.epoch, 0
        running.spent = report.spent
        running.unsaid.append((report.epoch, report.score))
        running.process.answer(self._say(running.claim, running.unsaid))

    def _say(self, claim: Claim, unsaid: list[Epoch]) -> bool:
        """Tell the storage of epochs it has not heard of; whether to prune."""
        prune = False
        try:
            while unsaid and not self._is_away:
                prune = self._study.report(claim, *unsaid[0])
                unsaid.pop(0)
        except StorageAway as error:
            self._away(error)
        return prune and not unsaid

    def _ended(self, running: _Running) -> None:
        """Its process is gone: with a word, or killed."""
        said = running.process.outcome
        outcome = said or self._death(running)
        if outcome is None:  # from its last checkpoint
            running.process = self._start(running.claim, running.config, running.slot)
            return
        if outcome.state == "memory" and running.memory is None:
            running.memory = f"out of memory, tried again with half the batch: {outcome.reason}"
            self._display.say(f"[yellow]trial {running.claim.number}: {running.memory}[/yellow]")
            running.config = halved(running.config)
            running.process = self._start(running.claim, running.config, running.slot)
            return
        self._running.remove(running)
        state = "failed" if outcome.state == "memory" else outcome.state
        reason = outcome.reason if running.memory is None else f"{running.memory}; {outcome.reason or state}"
        if said is None:
            self._record.note_death(running.claim, reason or state)
        self._tell(running.claim, Ending(state, {**running.spent, **outcome.values}, reason), running.unsaid)

    def _death(self, running: _Running) -> Outcome | None:
        """None where the trial is to be tried again: whoever killed its process need not have meant the trial."""
        if running.process.ran_out_of_memory:
            return Outcome("memory", running.spent, "the system's memory was full and its process was killed")
        running.deaths += 1
        how = running.process.end
        if running.deaths >= MAX_DEATHS:
            reason = f"its process ended with {how}, {MAX_DEATHS} times in a row within one epoch"
            return Outcome("failed", running.spent, reason)
        self._display.say(f"[dim]trial {running.claim.number}: {how}; it goes on from its checkpoint[/dim]")
        return None

    def _end_unrun(self, claim: Claim, reason: str) -> None:
        self._record.note_death(claim, reason)
        self._tell(claim, Ending("failed", {}, reason), [])

    def _tell(self, claim: Claim, ending: Ending, unsaid: list[Epoch]) -> None:
        self._untold.append((claim, ending, unsaid))
        self._display.ended(claim, ending)
        self._catch_up()

    def _catch_up(self) -> None:
        """Tell the storage what it has not heard, in order."""
        for running in self._running:
            self._say(running.claim, running.unsaid)
        while self._untold and not self._is_away:
            claim, ending, unsaid = self._untold[0]
            self._say(claim, unsaid)
            try:
                if not unsaid:
                    self._study.tell(claim, ending)
                    self._untold.pop(0)
            except StorageAway as error:
                self._away(error)

    def _renew(self) -> None:
        if self._is_away:
            return
        try:
            lost = {claim.number for claim in self._study.renew()}
        except StorageAway as error:
            self._away(error)
            return
        for running in [running for running in self._running if running.claim.number in lost]:
            self._display.say(
                f"[yellow]trial {running.claim.number} was taken over by another worker[/yellow]"
            )
            running.process.kill()
            self._running.remove(running)
        self._untold = [each for each in self._untold if each[0].number not in lost]

    @property
    def _is_away(self) -> bool:
        """Whether the storage was away a moment ago: it is not asked again at once."""
        return self._away_since is not None and time.monotonic() - self._away_since < _AWAY_S

    def _away(self, error: StorageAway) -> None:
        if self._away_since is None:
            self._display.say(
                f"[yellow]the study's storage is away ({error}); running trials go on, what they say is kept[/yellow]"
            )
        self._away_since = time.monotonic()

    def _show(self, *, now: bool = False) -> None:
        if self._is_away or (time.monotonic() < self._shown + _POLL_S and not now):
            return
        self._shown = time.monotonic()
        try:
            trials, front = self._study.trials(), self._study.front()
        except StorageAway as error:
            self._away(error)
            return
        if self._away_since is not None:
            self._display.say("[green]the study's storage is back[/green]")
            self._away_since = None
        self._display.show(trials, front, len(self._running))
        self._record.note_progress(trials)

    def _stop(self) -> None:
        """End what still runs, gently first: a later worker goes on from the checkpoints."""
        processes = [running.process.process for running in self._running]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + 30
        for process in processes:
            process.join(max(0.1, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
