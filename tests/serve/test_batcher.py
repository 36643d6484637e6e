"""Batches by length and padded tokens: the oldest leads, nobody starves, what is alike goes together."""

import asyncio
from collections import Counter
from dataclasses import dataclass

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rakuten.data.text_encoder import Tokens
from rakuten.serve.batcher import Batcher, BatchFacts
from rakuten.serve.costs import LaneCost
from rakuten.serve.forming import form_batch
from rakuten.serve.jobs import Job
from tests.serve.engines import POISON, Door, made, run, until


@dataclass(frozen=True)
class Waiting:
    order: float
    units: int
    group: str = "text"


WAITING = st.lists(
    st.builds(Waiting, st.floats(0, 100), st.integers(1, 512), st.sampled_from(["text", "image"])),
    min_size=1,
    max_size=60,
    unique_by=lambda part: part.order,
)


def formed(
    waiting: list[Waiting], most_parts: int = 16, budget: int = 1024, free: float = 16
) -> list[Waiting]:
    return form_batch(waiting, most_parts=most_parts, most_units=lambda _: budget, free_units=lambda _: free)


@hypothesis.settings(deadline=None)
@given(WAITING, st.integers(1, 20), st.integers(1, 2000), st.floats(0, 1000))
def test_a_batch_is_led_by_the_oldest_and_within_its_bounds(
    waiting: list[Waiting], most_parts: int, budget: int, free: float
) -> None:
    batch = formed(waiting, most_parts, budget, free)
    assert batch[0] == min(waiting, key=lambda part: part.order)
    assert {part.group for part in batch} == {batch[0].group}
    assert len(set(batch)) == len(batch) <= most_parts
    longest = max(part.units for part in batch)
    assert len(batch) == 1 or longest * len(batch) <= budget
    # Nobody is passed over: what lies between two members in length is a member.
    shortest = min(part.units for part in batch)
    between = [p for p in waiting if p.group == batch[0].group and shortest < p.units < longest]
    assert set(between) <= set(batch)
    # Padding never costs more than the batches that it saves.
    padding = longest * len(batch) - sum(part.units for part in batch)
    assert padding <= free * (len(batch) - 1) + 1e-6


@hypothesis.settings(deadline=None)
@given(WAITING)
def test_nobody_starves(waiting: list[Waiting]) -> None:
    left = list(waiting)
    while left:
        batch = formed(left)
        assert min(left, key=lambda part: part.order) in batch
        left = [part for part in left if part not in batch]


def test_like_goes_with_like() -> None:
    waiting = [Waiting(i, units) for i, units in enumerate([20, 480, 22, 470, 21, 25, 475])]
    assert {part.units for part in formed(waiting, budget=4096)} == {20, 21, 22, 25}


def test_where_a_batch_costs_more_than_its_padding_all_go_together() -> None:
    waiting = [Waiting(i, units) for i, units in enumerate([20, 480, 22, 470])]
    assert len(formed(waiting, budget=4096, free=1000)) == 4


@pytest.mark.parametrize(("overhead_s", "per_unit_s"), [(0.004, 0.0001), (0.0, 0.0002), (0.01, 0.0)])
def test_costs_are_learnt_from_batches(overhead_s: float, per_unit_s: float) -> None:
    lane = LaneCost()
    rng = np.random.default_rng(0)
    for _ in range(100):
        padded = int(rng.integers(10, 1000))
        noise = 1 + 0.02 * rng.standard_normal()
        lane.add(4, padded // 2, padded, noise * (overhead_s + per_unit_s * padded))
    for padded in (50, 400):
        assert lane.seconds(padded) == pytest.approx(overhead_s + per_unit_s * padded, rel=0.1)
    assert lane.padding == pytest.approx(2, rel=0.05)


def test_batches_all_alike_tell_a_proportion() -> None:
    lane = LaneCost()
    assert not lane.measured
    assert lane.seconds(1000) == 0
    for _ in range(10):
        lane.add(1, 100, 100, 0.02)
    assert lane.seconds(200) == pytest.approx(0.04)


class Counted:
    def __init__(self) -> None:
        self.facts: list[BatchFacts] = []

    def batch(self, facts: BatchFacts) -> None:
        self.facts.append(facts)


def batcher(counted: Counted | None = None, **changes: int) -> Batcher:
    sizes = {"runners": 1, "token_budget": 256, "batch_size": 8} | changes
    return Batcher(**sizes, latency_target_s=60, observer=counted)


def text(length: int) -> Tokens:
    return Tokens(np.arange(1, length + 1, dtype=np.int32), np.ones(length, np.float32))


async def shut(door: Door, runner: Batcher, served: object) -> Job:
    """A product in the runner's hands, so that what follows has to wait."""
    door.is_open.clear()
    job = runner.open(served, ["text"], 0.0)  # type: ignore[arg-type]
    runner.submit(job, "text", text(3))
    await until(lambda: door.entered.acquire(blocking=False))
    return job


def test_a_lone_product_goes_at_once_and_what_waits_meanwhile_goes_together() -> None:
    async def main() -> None:
        served, door = made()
        counted = Counted()
        runner = batcher(counted)
        first = await shut(door, runner, served)
        jobs = [runner.open(served, ["text"], 1.0 + i) for i in range(16)]
        for i, job in enumerate(jobs):
            runner.submit(job, "text", text(60 if i % 2 else 6))
        assert runner.waiting == 16
        door.is_open.set()
        await asyncio.gather(first.future, *(job.future for job in jobs))
        runner.close()
        assert door.texts == [(1, 3), (8, 6), (4, 60), (4, 60)]  # 256 padded tokens, 8 products
        assert [facts.padded_units - facts.units for facts in counted.facts] == [0, 0, 0, 0]
        assert counted.facts[0].waiting == 16

    run(main())


def test_texts_and_photos_make_batches_of_their_own() -> None:
    async def main() -> None:
        served, door = made()
        runner = batcher()
        first = await shut(door, runner, served)
        pixels = served.predictor.preprocessor.image_px
        photo = np.zeros((3, pixels, pixels), np.uint8)
        jobs = [runner.open(served, ["text", "image"], 1.0 + i) for i in range(6)]
        for job in jobs[:3]:
            runner.submit(job, "text", text(5))
        for job in jobs:
            runner.submit(job, "image", photo)
        for job in jobs[3:]:
            runner.skip(job, "text")
        door.is_open.set()
        outcomes = await asyncio.gather(*(job.future for job in jobs))
        await first.future
        runner.close()
        assert door.texts == [(1, 3), (3, 5)]
        assert door.photos == [6]
        assert [(o.has_text, o.has_image) for o in outcomes] == [(True, True)] * 3 + [(False, True)] * 3

    run(main())


def test_the_oldest_product_is_next_whichever_lane_it_waits_in() -> None:
    async def main() -> None:
        served, door = made()
        counted = Counted()
        runner = batcher(counted)
        first = await shut(door, runner, served)
        pixels = served.predictor.preprocessor.image_px
        photo = np.zeros((3, pixels, pixels), np.uint8)
        jobs = []
        for order in range(1, 41):  # a flood of photos, and now and then a text
            kind = "text" if order % 10 == 0 else "image"
            jobs.append(runner.open(served, [kind], float(order)))  # type: ignore[list-item]
            runner.submit(jobs[-1], kind, text(9) if kind == "text" else photo)  # type: ignore[arg-type]
        door.is_open.set()
        await asyncio.gather(first.future, *(job.future for job in jobs))
        runner.close()
        lanes = [facts.modality for facts in counted.facts]
        assert lanes.index("text", 1) <= 3  # before it two batches of eight photos, older than it
        assert Counter(lanes) == {"text": 2, "image": 5}

    run(main())


def test_a_poisonous_product_fails_alone() -> None:
    async def main() -> None:
        served, door = made()
        runner = batcher()
        first = await shut(door, runner, served)
        pixels = served.predictor.preprocessor.image_px
        photos = [np.full((3, pixels, pixels), value, np.uint8) for value in (1, POISON, 3)]
        jobs = [runner.open(served, ["image"], 1.0 + i) for i in range(3)]
        for job, photo in zip(jobs, photos, strict=True):
            runner.submit(job, "image", photo)
        door.is_open.set()
        found = await asyncio.gather(*(job.future for job in jobs), return_exceptions=True)
        await first.future
        assert [isinstance(each, RuntimeError) for each in found] == [False, True, False]
        after = runner.open(served, ["text"], 9.0)
        runner.submit(after, "text", text(4))
        await after.future  # the runner lives on
        runner.close()

    run(main())


def test_what_nobody_waits_for_is_not_computed() -> None:
    async def main() -> None:
        served, door = made()
        runner = batcher()
        first = await shut(door, runner, served)
        jobs = [runner.open(served, ["text"], 1.0 + i) for i in range(3)]
        for job in jobs:
            runner.submit(job, "text", text(5))
        runner.drop(jobs[1])
        door.is_open.set()
        await asyncio.gather(first.future, jobs[0].future, jobs[2].future)
        runner.close()
        assert door.texts == [(1, 3), (2, 5)]
        assert jobs[1].future.cancelled()

    run(main())


def test_closing_answers_what_is_there() -> None:
    async def main() -> None:
        served, door = made()
        runner = batcher(runners=2)
        first = await shut(door, runner, served)
        jobs = [runner.open(served, ["text"], 1.0 + i) for i in range(20)]
        for job in jobs:
            runner.submit(job, "text", text(5 + 5 * (job.order % 2 == 0)))
        closing = asyncio.create_task(asyncio.to_thread(runner.close))
        door.is_open.set()
        await asyncio.gather(first.future, *(job.future for job in jobs))
        await closing

    run(main())


def test_two_models_never_share_a_batch() -> None:
    async def main() -> None:
        old, door = made(version="1")
        new, new_door = made(version="2", seed=1)
        runner = batcher()
        first = await shut(door, runner, old)
        jobs = [runner.open(old if i % 2 else new, ["text"], 1.0 + i) for i in range(8)]
        for job in jobs:
            runner.submit(job, "text", text(5))
        door.is_open.set()
        outcomes = await asyncio.gather(*(job.future for job in jobs))
        await first.future
        runner.close()
        assert (door.texts, new_door.texts) == ([(1, 3), (4, 5)], [(4, 5)])
        for a, b in zip(outcomes, outcomes[2:], strict=False):
            np.testing.assert_allclose(a.probs, b.probs, atol=1e-6)
        assert not np.allclose(outcomes[0].probs, outcomes[1].probs)

    run(main())
