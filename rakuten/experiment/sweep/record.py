"""What is kept of a study beside its storage: its run in the tracking store, its folder, and the way on from its best.

outputs/sweeps/<study>/ holds trials.csv, best.yaml, the plots and each trial's log.
"""

import os
import shlex
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar

import optuna
from optuna.trial import FrozenTrial
from rich.console import Console

from rakuten.config import TrainConfig
from rakuten.config.space import as_text
from rakuten.config.sweep import SweepConfig
from rakuten.config_io import to_yaml
from rakuten.data.files import atomic_write
from rakuten.errors import RakutenError
from rakuten.experiment.ownership import ending_tags
from rakuten.experiment.runs import read_run
from rakuten.experiment.sweep.display import rank, reasons, spent_s, trial_table
from rakuten.experiment.sweep.page import study_page
from rakuten.experiment.sweep.study import LEASE, RUN, Claim, StorageAway, Study, exclusive
from rakuten.experiment.tracking.delivery import PARENT_TAG, deliver_pending, start_run
from rakuten.experiment.tracking.journal import JOURNAL, Status, without_password

DELIVER_EVERY_S, ASK_AGAIN_S = 20, 3
Answer = TypeVar("Answer")


class StudyRecord:
    """A context: its run in the tracking store ends FINISHED, FAILED or KILLED as what happens inside does."""

    def __init__(
        self,
        study: Study,
        settings: SweepConfig,
        base: TrainConfig,
        fixed: Sequence[str],
        console: Console,
    ):
        self._study, self._settings, self._fixed, self._console = study, settings, fixed, console
        self.base = base
        self.folder = base.outputs_dir / "sweeps" / study.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.bundle = self.folder  # the best trial's, once that is known and here
        self._num_noted = -1
        self._over = threading.Event()
        journal = self.folder / f"{socket.gethostname()}-{os.getpid()}.jsonl"  # each worker says its part
        with exclusive(settings.storage, study.name):  # workers that start together share one run
            self._run = start_run(
                base.tracking,
                study.name,
                {"rakuten.study": study.name},
                journal=journal,
                console=console,
            )

    def __enter__(self) -> "StudyRecord":
        threading.Thread(target=self._deliver_for_the_dead, name="deliver", daemon=True).start()
        self._run.log_params({f"space.{param.name}": param.text for param in self._study.space})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status: Status = "FAILED"
        try:
            if kind is None:
                self._close()
                status = "FINISHED"
            elif issubclass(kind, KeyboardInterrupt | SystemExit):
                status = "KILLED"
                told = (
                    f"[yellow]study {self._study.name} is stopped; the same command goes on with it[/yellow]"
                )
                self._console.print(told, soft_wrap=True)
        finally:
            self._over.set()
            self._run.finish(status)
            deliver_pending(self.base.tracking, self.base.outputs_dir, self._console)

    def _deliver_for_the_dead(self) -> None:
        """Bring to the tracking store what trials could not while it was away, or were killed before they did."""
        while not self._over.wait(DELIVER_EVERY_S):
            deliver_pending(self.base.tracking, self.base.outputs_dir, self._console)

    def tags_of(self, claim: Claim) -> dict[str, str]:
        """The tags of a trial's run."""
        tags = {"rakuten.study": self._study.name, "rakuten.trial": str(claim.number)}
        return tags | ({PARENT_TAG: self._run.run_id} if self._run.run_id else {})

    def note_death(self, claim: Claim, reason: str) -> None:
        """A trial failed without a word of its own: say it for it."""
        path = self.base.outputs_dir / claim.run_id
        run = read_run(path)
        # Without a folder of its own, the study's serves.
        journal = path / "checkpoints" / JOURNAL if run else self.folder / f"trial-{claim.number:03d}.jsonl"
        tracked = start_run(
            self.base.tracking,
            claim.run_id,
            self.tags_of(claim),
            journal=journal,
            run_name=f"trial-{claim.number:03d}",
            console=self._console,
        )
        tracked.set_tags(ending_tags("failed", reason))
        tracked.finish("FAILED")
        if run is not None:
            run.with_state("failed", reason)

    def note_progress(self, trials: Sequence[FrozenTrial]) -> None:
        """The best score so far, by the number of finished trials."""
        finished = sum(trial.state.is_finished() for trial in trials)
        if finished == self._num_noted:
            return
        self._num_noted = finished
        if ranked := rank(trials, self._settings):
            values = dict(zip(self._settings.objective, ranked[0].values, strict=True))
            self._run.log_metrics({f"best/{name}": value for name, value in values.items()}, finished)

    def _close(self) -> None:
        trials, front, frame = self._patiently(
            lambda study: (study.get_trials(deepcopy=False), study.best_trials, study.trials_dataframe())
        )
        best = front if len(self._settings.objective) > 1 else trials
        ranked = rank(best, self._settings)
        with atomic_write(self.folder / "trials.csv") as path:
            frame.to_csv(path, index=False)
        for reason, numbers in reasons(trials).items():
            told = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
            self._console.print(f"[red]failed[/red]  trial {told}: {reason}", soft_wrap=True)
        if not ranked:
            raise RakutenError(
                f"no trial of study {self._study.name} completed",
                got=next(iter(reasons(trials)), "all were pruned"),
                fix=f"the logs of its trials are in {self.folder}/",
            )
        page = self._patiently(lambda study: study_page(study, self._settings.objective))
        with atomic_write(self.folder / "plots" / "study.html") as path:
            path.write_text(page, encoding="utf-8")
        self._keep_best(ranked[0])
        title = f"{self._study.name} · {len(trials)} trials · {spent_s(trials) / 60:.1f} min of training"
        self._console.print(trial_table(best, self._settings, title))
        self._say_what_next(ranked[0])

    def _patiently(self, ask: Callable[[optuna.Study], Answer]) -> Answer:
        """What the study answers, as soon as its storage is there."""
        is_told = False
        while True:
            try:
                return self._study.read(ask)
            except StorageAway as error:
                if not is_told:
                    self._console.print(f"[yellow]waiting for the study's storage ({error})[/yellow]")
                is_told = True
                time.sleep(ASK_AGAIN_S)

    def _keep_best(self, best: FrozenTrial) -> None:
        values = dict(zip(self._settings.objective, best.values, strict=True))
        told = {"trial": best.number, "run": best.user_attrs[RUN], **values, "params": dict(best.params)}
        with atomic_write(self.folder / "best.yaml") as path:
            path.write_text(to_yaml(told), encoding="utf-8")
        # Tags, not params: those could not be changed when the study is made longer and another trial wins.
        self._run.set_tags(
            {"best.trial": str(best.number), "best.run": str(best.user_attrs[RUN])}
            | {f"best.{name}": as_text(value) for name, value in best.params.items()}
        )
        bundle = self.base.outputs_dir / str(best.user_attrs[RUN]) / "bundle"
        if bundle.is_dir():
            self.bundle = bundle
            self._run.log_artifacts(bundle, "bundle")
        self._run.log_artifacts(self.folder / "plots", "plots")
        for name in ("best.yaml", "trials.csv"):
            self._run.log_text((self.folder / name).read_text(encoding="utf-8"), name)

    def _say_what_next(self, best: FrozenTrial) -> None:
        def line(what: str, text: str) -> None:
            self._console.print(f"{what:<8} {text}", soft_wrap=True, markup=False)

        fixed = [each for each in self._fixed if each.partition("=")[0].lstrip("+") != "sweep"]
        params = [f"{name}={as_text(value)}" for name, value in best.params.items()]
        retrain = shlex.join(["python", "scripts/train.py", *fixed, *params])
        data = "" if self.base.data.name == "demo" else f" data={self.base.data.name}"
        if self.bundle != self.folder:
            line("bundle", str(self.bundle))
            line("judge", f"python scripts/evaluate.py bundle={self.bundle}{data}")
        else:
            host = (best.user_attrs.get(LEASE) or {}).get("host", "another machine")
            line("bundle", f"run {best.user_attrs[RUN]} on {host} (this is {socket.gethostname()})")
        line("retrain", retrain)
        line("plots", f"{self.folder}/plots/study.html")
        line("look", f"optuna-dashboard {without_password(self._settings.storage)}")
        if self.base.tracking.kind != "off":
            uri = without_password(self.base.tracking.uri)
            line("", uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}")
