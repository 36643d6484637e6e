"""The engine answers as the Predictor does, whatever comes beside it, and refuses what it cannot answer in time."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rakuten.data.preprocess import Product
from rakuten.model.process_runtime import ProcessRuntime
from rakuten.model.runtime import Floats, Mask
from rakuten.monitor.record import PredictionRecord
from rakuten.serve.answer import num_reaching, prediction
from rakuten.serve.cache import key_of
from rakuten.serve.engine import Engine
from rakuten.serve.problems import ProblemError
from rakuten.serve.schema import Prediction
from rakuten.serve.served import Served
from rakuten.serve.warm import warm_up
from tests.model.tiny import LABELS, bundle_of, mixed_products, photo, product
from tests.serve.engines import Door, Model, engine, made, run, settings, until


def alike(found: Prediction, expected: Prediction) -> bool:
    return found.model_dump(exclude={"prediction_id"}) == expected.model_dump(exclude={"prediction_id"})


@pytest.mark.parametrize("text", ["ngram", "transformer"])
def test_answers_are_the_predictors(text: str) -> None:
    async def main() -> None:
        served, _ = made(text)
        products = [each for seed in range(6) for each in [*mixed_products()[:3], product(seed)]]
        async with engine(served, runners=2, token_budget=100) as asked:
            found = await asyncio.gather(*(asked.predict(each) for each in products))
        for given_, answer in zip(served.predictor.predict(products, top_k=5), found, strict=True):
            assert answer.predicted_prdtypecode == given_.code
            assert answer.name == given_.name
            assert answer.confidence == pytest.approx(given_.confidence, abs=1e-5)
            assert [each.prdtypecode for each in answer.top_k] == [code for code, _ in given_.top]
            assert answer.model_version == "1"
            assert answer.contributions is None
        assert len({answer.prediction_id for answer in found}) == len(found)

    run(main())


def test_contributions_add_up_to_what_is_known_beyond_nothing() -> None:
    async def main() -> None:
        served, _ = made()
        async with engine(served) as asked:
            both, text_only = [
                await asked.predict(each, explain=True) for each in (product(1), product(1, image=False))
            ]
        for found in (both, text_only):
            assert found.contributions is not None
            [nothing] = served.predictor.probabilities(
                served.predictor.batch(served.predictor.preprocessor([Product()]))
            )
            baseline = nothing[LABELS.codes.index(found.predicted_prdtypecode)]
            total = found.contributions.text + found.contributions.image
            assert total == pytest.approx(found.confidence - baseline, abs=1e-6)
        assert text_only.contributions is not None
        assert text_only.contributions.image == 0

    run(main())


PROBS = st.lists(st.floats(1e-6, 1), min_size=1, max_size=30).map(lambda raw: np.array(raw) / np.sum(raw))


@hypothesis.settings(deadline=None, max_examples=60)  # a busy machine takes its time
@given(PROBS, st.floats(0.01, 1))
def test_a_prediction_set_is_the_fewest_that_reach_the_coverage(probs: Any, coverage: float) -> None:
    codes = tuple(range(len(probs)))
    labels = replace(LABELS, codes=codes, names=tuple(map(str, codes)))
    found = prediction(probs, labels, settings(coverage=coverage), version="1", prediction_id="0" * 32)
    members = [each.confidence for each in found.prediction_set]
    assert sum(members) >= coverage - 1e-6 or len(members) == len(probs)
    assert sum(members[:-1]) < coverage
    assert min(members) >= max((p for p in probs.tolist() if p not in members), default=0)
    assert len(found.top_k) == min(5, len(probs))
    assert found.confidence == probs.max()


@pytest.mark.parametrize(
    ("falling", "coverage", "expected"),
    [
        ([0.6, 0.3, 0.1], 0.9, 2),  # whose floats add up to 0.8999999999999999
        ([1.0, 0.0, 0.0], 1.0, 3),  # all of them for certain
        ([0.5, 0.3, 0.19999], 0.9999999, 3),  # they never reach it
        ([0.95, 0.05], 0.9, 1),
        ([1.0], 0.5, 1),
    ],
)
def test_sets_where_floats_do_not_add_up(falling: list[float], coverage: float, expected: int) -> None:
    assert num_reaching(np.array(falling), coverage) == expected


def test_an_unsure_answer_abstains() -> None:
    async def main() -> None:
        served, _ = made()
        async with engine(served, abstain_below=0.0) as asked, engine(served, abstain_below=1.0) as careful:
            assert not (await asked.predict(product(1))).abstained
            assert (await careful.predict(product(1))).abstained

    run(main())


def test_identical_requests_are_computed_once() -> None:
    async def main() -> None:
        served, door = made()
        async with engine(served, cache_size=4) as asked:
            door.is_open.clear()
            together = [asyncio.create_task(asked.predict(product(1))) for _ in range(10)]
            await until(lambda: bool(door.texts))
            door.is_open.set()
            first, *others = await asyncio.gather(*together)
            later = await asked.predict(product(1))
            assert all(alike(each, first) for each in [*others, later])
            assert len({each.prediction_id for each in [first, *others, later]}) == 11
            assert (len(door.texts), len(door.photos)) == (1, 1)
            for seed in range(2, 6):  # four more push it out
                await asked.predict(product(seed))
            await asked.predict(product(1))
            assert len(door.texts) == 6

    run(main())


def test_a_failure_is_not_kept() -> None:
    async def main() -> None:
        served, _ = made()
        async with engine(served, cache_size=4) as asked:
            torn = Product("livre", None, photo(1)[:60])
            for _ in range(2):
                with pytest.raises(ProblemError) as problem:
                    await asked.predict(torn)
                assert problem.value.kind.status == 422
            assert (await asked.predict(Product("livre"))).confidence > 0

    run(main())


def test_what_makes_another_request() -> None:
    base = Product("a", "b", b"c")
    others = [
        replace(base, designation=None),
        replace(base, designation="ab", description=""),
        replace(base, description=None),
        replace(base, image=None),
        replace(base, image=b"d"),
    ]
    keys = {key_of("1", each, explain=False) for each in [base, *others]}
    keys |= {key_of("2", base, explain=False), key_of("1", base, explain=True)}
    assert len(keys) == 8
    assert key_of("1", replace(base), explain=False) in keys


def test_who_goes_away_takes_nobody_with_him() -> None:
    async def main() -> None:
        served, door = made()
        async with engine(served, cache_size=4, runners=1) as asked:
            door.is_open.clear()
            busy = asyncio.create_task(asked.predict(product(9, image=False)))
            await until(lambda: bool(door.texts))
            leader, follower, alone = [
                asyncio.create_task(asked.predict(each))
                for each in (product(1, image=False), product(1, image=False), product(2, image=False))
            ]
            await asyncio.sleep(0.05)
            leader.cancel()
            alone.cancel()
            await asyncio.sleep(0.05)
            door.is_open.set()
            assert (await follower).confidence > 0
            await busy
            assert [shape[0] for shape in door.texts] == [1, 1]  # nobody waited for the third any more

    run(main())


@pytest.mark.slow
def test_a_model_whose_process_was_killed_answers_all_the_same(tmp_path: Path) -> None:
    predictor = bundle_of(tmp_path / "bundle", "ngram", "test_resnet")
    runtime = ProcessRuntime(tmp_path / "bundle", "cpu", compile=False)
    served = Served("1", predictor, "2026-11-24T12:00:00+00:00", runtime, tmp_path / "bundle")

    async def main() -> None:
        async with engine(served) as asked:
            before = await asked.predict(product(1))
            assert runtime.pid is not None
            os.kill(runtime.pid, signal.SIGKILL)
            answers = await asyncio.gather(*(asked.predict(product(seed)) for seed in (1, 2, 3)))
            assert answers[0].confidence == pytest.approx(before.confidence, abs=1e-5)
            for answer, expected in zip(
                answers, predictor.predict([product(seed) for seed in (1, 2, 3)]), strict=True
            ):
                assert answer.predicted_prdtypecode == expected.code
                assert answer.confidence == pytest.approx(expected.confidence, abs=1e-5)

    run(main())


def warmed(text: str = "ngram") -> tuple[Any, Door]:
    served, door = made(text)
    warm_up(served, token_budget=512, batch_size=8, within_s=600)
    assert served.costs.text.measured
    assert served.costs.image.measured
    for seen in (door.texts, door.photos, door.lengths):
        seen.clear()
    return served, door


def test_a_warm_start_runs_every_shape() -> None:
    served, door = made("transformer")
    warm_up(served, token_budget=512, batch_size=8, within_s=600)
    assert {rows for rows, _ in door.texts} == {1, 2, 4, 8}
    assert {length for _, length in door.texts} == {8, 24}  # up to what this model reads
    assert set(door.photos) == {1, 2, 4, 8}


def test_a_compiler_s_minutes_leave_time_for_every_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    served, door = made("transformer")
    passed = [0.0]
    monkeypatch.setattr("rakuten.serve.warm.time.monotonic", lambda: passed[0])

    def slow_at_first(run: Any, seen: list[Any]) -> Any:
        def call(*arrays: Any) -> Any:
            passed[0] += 0.01 if seen else 60.0
            return run(*arrays)

        return call

    monkeypatch.setattr(door, "text", slow_at_first(door.text, door.texts))
    monkeypatch.setattr(door, "image", slow_at_first(door.image, door.photos))
    warm_up(served, token_budget=512, batch_size=8)
    assert {rows for rows, _ in door.texts} == set(door.photos) == {1, 2, 4, 8}
    assert served.costs.seconds() < 0.1  # no request is told that it takes a minute


def test_on_a_slow_machine_the_largest_shapes_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    served, door = made("transformer")
    passed = [0.0]
    monkeypatch.setattr("rakuten.serve.warm.time.monotonic", lambda: passed[0])

    def slow(run: Any) -> Any:
        def call(*arrays: Any) -> Any:
            passed[0] += 0.02
            return run(*arrays)

        return call

    monkeypatch.setattr(door, "text", slow(door.text))
    monkeypatch.setattr(door, "image", slow(door.image))
    warm_up(served, token_budget=512, batch_size=8, within_s=0.13)
    assert len(door.texts) + len(door.photos) == 2 * 7
    assert max(rows for rows, _ in door.texts) < 8
    assert max(door.photos) < 8


def test_more_than_can_be_answered_in_time_is_refused_at_once_and_only_then() -> None:
    async def main() -> None:
        served, door = warmed()
        one_s = served.costs.seconds()
        async with engine(served, latency_target_ms=max(1.0, 40_000 * one_s), runners=1) as asked:
            door.is_open.clear()
            tasks = [asyncio.create_task(asked.predict(product(seed))) for seed in range(1500)]
            await until(lambda: any(task.done() for task in tasks))
            refused = [task for task in tasks if task.done()]
            for task in refused:
                error = task.exception()
                assert isinstance(error, ProblemError)
                assert error.kind.name == "overloaded"
                assert error.kind.status == 503
                assert error.retry_after_s is not None
                assert error.retry_after_s > 0
            assert not tasks[0].done()
            door.is_open.set()
            answered = [
                each
                for each in await asyncio.gather(*tasks, return_exceptions=True)
                if isinstance(each, Prediction)
            ]
            assert 1 < len(answered) < 1500
            assert (await asked.predict(product(0))).confidence > 0  # it recovers

    run(main())


def test_who_knows_no_cost_refuses_nobody() -> None:
    async def main() -> None:
        served, _ = made()
        async with engine(served, latency_target_ms=0.001) as asked:
            assert len(await asyncio.gather(*(asked.predict(product(seed)) for seed in range(30)))) == 30

    run(main())


def test_a_large_request_is_admitted_whole_and_lets_small_ones_between() -> None:
    async def main() -> None:
        served, door = warmed()
        async with engine(served, batch_size=4, latency_target_ms=60_000) as asked:
            door.is_open.clear()
            large = asyncio.create_task(asked.predict_many([product(s, image=False) for s in range(200)]))
            await until(lambda: bool(door.texts))
            await asyncio.sleep(0.2)
            order: list[str] = []
            small = asyncio.create_task(asked.predict(product(999, image=False)))
            small.add_done_callback(lambda _: order.append("small"))
            large.add_done_callback(lambda _: order.append("large"))
            await asyncio.sleep(0.05)
            door.is_open.set()
            found = await large
            assert not [each for each in found if isinstance(each, ProblemError)]
            assert order == ["small", "large"]

    run(main())


def test_one_bad_item_spoils_no_other() -> None:
    async def main() -> None:
        served, _ = made()
        async with engine(served) as asked:
            items = [product(1), Product("livre", None, b"no photo"), Product(), product(2)]
            good, torn, empty, other = await asked.predict_many(items)
            assert isinstance(good, Prediction)
            assert isinstance(other, Prediction)
            assert isinstance(torn, ProblemError)
            assert torn.errors[0].field == "image"
            assert isinstance(empty, ProblemError)
            assert {torn.kind.status, empty.kind.status} == {422}

    run(main())


def test_a_photo_tells_a_model_of_texts_nothing() -> None:
    async def main() -> None:
        served, _ = made(image=None)
        async with engine(served) as asked:
            with pytest.raises(ProblemError, match="the model needs a title or a description"):
                await asked.predict(Product(image=photo(1)))
            with_photo = await asked.predict(product(3))
            assert alike(with_photo, await asked.predict(product(3, image=False)))
            assert (await asked.predict(Product("???"))).confidence > 0  # a text of which nothing is known

    run(main())


def test_a_request_keeps_its_model() -> None:
    async def main() -> None:
        old, door = made(version="1")
        new, _ = made(version="2", seed=3)
        source = Model(old)
        asked = Engine(settings(cache_size=10), source)
        door.is_open.clear()
        before = asyncio.create_task(asked.predict(product(1)))
        await until(lambda: bool(door.texts))
        source.current = new
        door.is_open.set()
        first, after = await before, await asked.predict(product(1))
        await asked.aclose()
        assert (first.model_version, after.model_version) == ("1", "2")
        assert first.top_k != after.top_k

    run(main())


def test_closing_answers_what_is_in_flight_and_takes_no_more() -> None:
    async def main() -> None:
        served, door = made()
        asked = Engine(settings(), Model(served))
        door.is_open.clear()
        tasks = [asyncio.create_task(asked.predict(product(seed))) for seed in range(20)]
        await until(lambda: bool(door.texts))
        closing = asyncio.create_task(asked.aclose())
        await asyncio.sleep(0.05)
        with pytest.raises(ProblemError, match="stopping"):
            await asked.predict(product(99))
        door.is_open.set()
        assert len(await asyncio.gather(*tasks)) == 20
        await closing

    run(main())


def test_without_a_model_it_says_so() -> None:
    async def main() -> None:
        async with engine(None) as asked:
            with pytest.raises(ProblemError) as problem:
                await asked.predict(product(1))
            assert (problem.value.kind.name, problem.value.kind.status) == ("not-ready", 503)

    run(main())


class NotANumber(Door):
    def head(self, text: Floats | None, image: Floats | None, has_text: Mask, has_image: Mask) -> Floats:
        return np.full((len(has_text), 5), np.nan, np.float32)


def test_what_is_not_a_number_is_no_answer() -> None:
    async def main() -> None:
        served, door = made()
        broken = replace(served, runtime=NotANumber(door._inner))
        async with engine(broken, cache_size=5) as asked:
            with pytest.raises(ProblemError) as problem:
                await asked.predict(product(1))
            assert problem.value.kind.name == "internal"

    run(main())


class Kept(list[PredictionRecord]):
    without = 0

    def write(self, record: PredictionRecord) -> None:
        self.append(record)

    def lost(self) -> None:
        self.without += 1


def test_every_answer_leaves_a_record() -> None:
    async def main() -> None:
        served, _ = made()
        kept = Kept()
        async with engine(served, log=kept, cache_size=5, runners=1) as asked:
            first = await asked.predict(product(1), key_name="shop")
            again = await asked.predict(product(1))
            await asked.predict(product(2, image=False))
        records = {record.prediction_id: record for record in kept}
        computed, cached = records[first.prediction_id], records[again.prediction_id]
        assert (computed.cached, cached.cached) == (False, True)
        assert computed.key_name == "shop"
        assert computed.code == first.predicted_prdtypecode
        assert computed.statistics == cached.statistics
        assert computed.statistics.has_image
        assert computed.statistics.image_width == 40
        assert computed.text_embedding is not None
        assert computed.image_embedding is not None
        assert computed.queue_ms is not None
        assert computed.total_ms is not None
        assert computed.total_ms >= (computed.model_ms or 0)
        assert computed.designation is None  # unless asked for
        assert not kept[-1].statistics.has_image
        assert kept[-1].image_embedding is None

    run(main())


def test_an_answer_of_which_no_record_can_be_made_goes_out_and_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        served, _ = made()
        kept = Kept()
        unreadable = replace(served, known_words=7)  # type: ignore[arg-type]
        async with engine(unreadable, log=kept) as asked:
            found = await asked.predict(product(1))
        assert (len(kept), kept.without) == (0, 1)
        assert f"prediction {found.prediction_id} is not logged" in caplog.text

    run(main())
