"""Products of many requests -> batches of a model: texts and photos apart, cut by length and padded tokens.

Every runner is a thread that takes the next batch as soon as it is free. Nobody waits for a batch to fill: what came
while the runners were busy makes the next one, and a lone product goes at once. When a product's last part is there,
the runner that made it runs the head, for all products that became complete with that batch.
"""

import asyncio
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from rakuten.data.text_encoder import Tokens
from rakuten.serve.costs import Modality
from rakuten.serve.forming import form_batch
from rakuten.serve.jobs import Input, Job, Outcome, Part, isolated, run_head, run_tower
from rakuten.serve.served import Served

SHARE_OF_TARGET: Final = 0.25  # of the time to answer, for one batch: whoever comes now waits for it to end
LEAST_FREE_UNITS: Final = 16  # of padding, whatever was measured


@dataclass(frozen=True)
class BatchFacts:
    """One batch that ran."""

    modality: Modality | None  # None: products that no tower had anything to read of
    parts: int
    units: int  # tokens or photos
    padded_units: int
    seconds: float
    waiting: int  # parts left in the queue when it began


class Observer(Protocol):
    """Whoever counts batches."""

    def batch(self, facts: BatchFacts) -> None:
        """Called from the runners' threads."""


class Batcher:
    """`runners` threads over one queue. `open` and what follows belong to an event loop, and never wait."""

    def __init__(
        self,
        *,
        runners: int,
        token_budget: int,
        batch_size: int,
        latency_target_s: float,
        observer: Observer | None = None,
    ):
        self._token_budget, self._batch_size = token_budget, batch_size
        self._longest_s = SHARE_OF_TARGET * latency_target_s
        self._observer = observer
        self._changed = threading.Condition()
        self._parts: dict[Part, None] = {}  # in the order of their coming; of open jobs, and not running
        self._running: dict[int, float] = {}  # runner -> time.monotonic() when it is likely to be done
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"runner-{number}", daemon=True)
            for number in range(runners)
        ]
        for thread in self._threads:
            thread.start()

    def open(self, served: Served, modalities: Iterable[Modality], order: float) -> Job:
        """A product that is coming, so that the queue is known before its photo is decoded.

        For each modality either `submit` or `skip` follows; `drop` forgets it all.
        """
        loop = asyncio.get_running_loop()
        job = Job(served, order, loop, loop.create_future())
        for modality in modalities:
            job.parts[modality] = Part(job, modality, round(served.costs.lane(modality).mean_units))
        with self._changed:
            self._parts.update(dict.fromkeys(job.parts.values()))
        if not job.parts:
            self._submit(Part(job, None, 0), None, 0)
        return job

    def submit(self, job: Job, modality: Modality, data: Input) -> None:
        if job.future.done():  # dropped, or failed by its other part
            return
        part = job.parts[modality]
        self._submit(part, data, len(data) if isinstance(data, Tokens) else 1)

    def skip(self, job: Job, modality: Modality) -> None:
        """There is nothing for that tower to read."""
        with self._changed:
            self._parts.pop(job.parts.pop(modality), None)
            blind = not job.parts
        if blind:
            self._submit(Part(job, None, 0), None, 0)

    def drop(self, job: Job) -> None:
        """Nobody waits for it any more. A batch that runs with it runs on."""
        with self._changed:
            self._forget(job)
        if not job.future.cancel() and not job.future.cancelled():
            job.future.exception()  # read, or asyncio complains that nobody did

    def wait_s(self, order: float) -> float:
        """How long a product that comes now, with that `order`, is likely to wait for a runner."""
        lanes: dict[object, list[Part]] = {}
        with self._changed:
            for part in self._parts:
                if part.order <= order:
                    lanes.setdefault(part.group, []).append(part)
            now = time.monotonic()
            running_s = sum(max(0.0, end - now) for end in self._running.values())
        return (running_s + sum(self._seconds(parts) for parts in lanes.values())) / len(self._threads)

    @property
    def waiting(self) -> int:
        """Parts that no runner has taken yet."""
        return len(self._parts)

    def close(self) -> None:
        """Answer what is there, then end the threads. Blocks."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _submit(self, part: Part, data: Input | None, units: int) -> None:
        with self._changed:
            part.data, part.units, part.submitted = data, units, time.monotonic()
            part.job.parts[part.modality] = part
            self._parts[part] = None
            self._changed.notify()

    def _forget(self, job: Job) -> None:
        for part in job.parts.values():
            self._parts.pop(part, None)
        if self._closing:
            self._changed.notify_all()

    def _seconds(self, parts: Sequence[Part]) -> float:
        """Of all these parts of one group, in full batches."""
        if (modality := parts[0].modality) is None:
            return 0.0
        lane = parts[0].job.served.costs.lane(modality)
        if not lane.measured:  # who knows nothing refuses nobody
            return 0.0
        padded = lane.padding * sum(part.units for part in parts)
        most = self._most_units(parts[0])
        return lane.seconds(padded, max(1.0, len(parts) / self._batch_size, padded / most if most else 1.0))

    def _most_units(self, lead: Part) -> float:
        budget = float(self._batch_size if lead.modality != "text" else self._token_budget)
        if lead.modality is None:
            return budget
        lane = lead.job.served.costs.lane(lead.modality)
        if lane.per_unit_s > 0:
            budget = min(budget, (self._longest_s - lane.overhead_s) / lane.per_unit_s)
        return max(budget, 1.0)

    @staticmethod
    def _free_units(lead: Part) -> float:
        if lead.modality is None:
            return 0.0
        return max(LEAST_FREE_UNITS, lead.job.served.costs.lane(lead.modality).free_units)

    def _work(self, runner: int) -> None:
        while (taken := self._next(runner)) is not None:
            batch, began = taken
            try:
                self._run(runner, batch, began)
            except Exception as error:  # a runner that ended would take the service with it
                _deliver([(part.job, error) for part in batch])
            del taken, batch  # while it waits for the next one, its model may be swapped for another and go

    def _next(self, runner: int) -> tuple[list[Part], float] | None:
        """The next batch, and when the runner turned to it; None at the end."""
        with self._changed:
            while not (ready := [part for part in self._parts if part.submitted is not None]):
                if self._closing and not self._parts:
                    self._changed.notify_all()
                    return None
                self._changed.wait()
            began = time.monotonic()
            batch = form_batch(
                ready,
                most_parts=self._batch_size,
                most_units=self._most_units,
                free_units=self._free_units,
            )
            for part in batch:
                del self._parts[part]
            self._running[runner] = time.monotonic() + self._seconds(batch)
            if len(ready) > len(batch):
                self._changed.notify()
            return batch, began

    def _run(self, runner: int, batch: list[Part], began: float) -> None:
        started = time.monotonic()
        features = isolated(run_tower, batch)
        seconds = time.monotonic() - started
        complete: list[Job] = []
        failed: list[tuple[Job, Outcome | Exception]] = []
        with self._changed:
            # Before its answers go out: whoever has one may ask again at once.
            del self._running[runner]
            for part, found in zip(batch, features, strict=True):
                if isinstance(found, Exception):
                    self._forget(part.job)
                    failed.append((part.job, found))
                elif part.job.is_complete(part, found, started, seconds):
                    complete.append(part.job)
        _deliver([*zip(complete, isolated(run_head, complete), strict=True), *failed])
        # All that kept the runner from the next batch: of a small model the tower is the smaller part.
        self._tell(batch, time.monotonic() - began)

    def _tell(self, batch: list[Part], seconds: float) -> None:
        modality = batch[0].modality
        units = sum(part.units for part in batch)
        padded = max(part.units for part in batch) * len(batch)
        if modality is not None:
            batch[0].job.served.costs.lane(modality).add(len(batch), units, max(padded, 1), seconds)
        if self._observer is not None:
            self._observer.batch(BatchFacts(modality, len(batch), units, padded, seconds, len(self._parts)))


def _deliver(found: Sequence[tuple[Job, Outcome | Exception]]) -> None:
    """Once a batch and loop: waking an event loop costs as much as a small model's answer."""
    for loop in {job.loop for job, _ in found}:
        mine = [(job, outcome) for job, outcome in found if job.loop is loop]
        if not loop.is_closed():
            loop.call_soon_threadsafe(_set, mine)


def _set(found: Sequence[tuple[Job, Outcome | Exception]]) -> None:
    for job, outcome in found:
        if job.future.done():
            continue
        if isinstance(outcome, Exception):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)
