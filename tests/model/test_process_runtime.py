"""A model in a process of its own answers as one in this process does, and whatever ends it ends one batch."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pytest
import torch

from rakuten.data.batching import Batch
from rakuten.errors import BundleError
from rakuten.model.bundle import Predictor
from rakuten.model.bundle_files import WEIGHTS, update_info
from rakuten.model.canary import record_canary
from rakuten.model.onnx_runtime import load_runtime
from rakuten.model.process_runtime import ProcessRuntime
from rakuten.model.runtime import TorchRuntime, embed, logits_of
from tests.model.tiny import bundle_of, mixed_products, product


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return bundle_of(tmp_path_factory.mktemp("model") / "bundle", "transformer", "test_resnet")


@pytest.fixture(scope="module")
def runtime(predictor: Predictor) -> ProcessRuntime:
    assert predictor.path is not None
    return ProcessRuntime(predictor.path, "cpu", compile=False)


@pytest.fixture
def words(tmp_path: Path) -> Predictor:
    """What compiles fastest."""
    return bundle_of(tmp_path / "bundle", "ngram", None)


def until(holds: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def batches(predictor: Predictor, count: int = 8) -> list[Batch]:
    products = [*mixed_products(), *(product(seed) for seed in range(count))]
    return [predictor.batch(predictor.preprocessor(products[at : at + 3])) for at in range(count)]


def test_it_answers_as_in_this_process_whoever_asks_at_once(
    predictor: Predictor, runtime: ProcessRuntime
) -> None:
    here = TorchRuntime(predictor.classifier)
    assert (runtime.name, runtime.tolerance) == (here.name, here.tolerance)
    assert (runtime.text_dim, runtime.image_dim) == (here.text_dim, here.image_dim)
    asked = batches(predictor)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: logits_of(runtime, embed(runtime, batch)), asked))
    for batch, logits in zip(asked, found, strict=True):
        np.testing.assert_allclose(logits, logits_of(here, embed(here, batch)), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("text", "image"), [("ngram", None), (None, "test_resnet")])
def test_a_model_of_one_tower(tmp_path: Path, text: str | None, image: str | None) -> None:
    alone = bundle_of(tmp_path / "bundle", text, image)
    there, here = ProcessRuntime(tmp_path / "bundle", "cpu", compile=False), TorchRuntime(alone.classifier)
    assert (there.text_dim, there.image_dim) == (here.text_dim, here.image_dim)
    [batch] = batches(alone, 1)
    np.testing.assert_allclose(
        logits_of(there, embed(there, batch)), logits_of(here, embed(here, batch)), atol=1e-6
    )


def test_a_batch_that_fails_spoils_no_other(predictor: Predictor, runtime: ProcessRuntime) -> None:
    before = runtime.pid
    with pytest.raises(RuntimeError, match=r"IndexError: index out of range"):
        runtime.text(np.full((1, 4), 10**9), np.ones((1, 4), np.float32))
    [batch] = batches(predictor, 1)
    assert np.isfinite(logits_of(runtime, embed(runtime, batch))).all()
    assert runtime.pid == before


def test_a_process_that_was_killed_is_started_anew(predictor: Predictor, runtime: ProcessRuntime) -> None:
    [batch] = batches(predictor, 1)
    expected = logits_of(runtime, embed(runtime, batch))
    before = runtime.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    np.testing.assert_array_equal(logits_of(runtime, embed(runtime, batch)), expected)
    assert runtime.pid not in (None, before)


@pytest.mark.slow
def test_a_process_that_hangs_is_not_waited_for(
    predictor: Predictor, runtime: ProcessRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    [batch] = batches(predictor, 1)
    expected = logits_of(runtime, embed(runtime, batch))
    before = runtime.pid
    assert before is not None
    os.kill(before, signal.SIGSTOP)
    monkeypatch.setattr("rakuten.model.process_runtime._ANSWER_S", 2.0)
    np.testing.assert_array_equal(logits_of(runtime, embed(runtime, batch)), expected)
    until(lambda: not psutil.pid_exists(before))


@pytest.mark.slow
def test_another_bundle_in_its_place_is_refused_and_not_asked_for_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bundle_of(tmp_path / "bundle", "ngram", None)
    runtime = ProcessRuntime(tmp_path / "bundle", "cpu", compile=False)
    [batch] = batches(first, 1)
    expected = logits_of(runtime, embed(runtime, batch))
    (tmp_path / "bundle").rename(tmp_path / "kept")
    bundle_of(tmp_path / "bundle", "ngram", None, seed=1)
    assert runtime.pid is not None
    os.kill(runtime.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="is not the one that was loaded first"):
        embed(runtime, batch)
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(RuntimeError, match="no other one could be started"):
            embed(runtime, batch)
    assert time.monotonic() - began < 1
    shutil.rmtree(tmp_path / "bundle")
    (tmp_path / "kept").rename(tmp_path / "bundle")
    monkeypatch.setattr("rakuten.model.process_runtime._RETRY_S", 0.0)
    np.testing.assert_array_equal(logits_of(runtime, embed(runtime, batch)), expected)


@pytest.mark.slow
def test_it_ends_while_it_is_compiled_when_nobody_holds_it(words: Predictor) -> None:
    assert words.path is not None
    before = set(psutil.Process().children(recursive=True))
    runtime = ProcessRuntime(words.path, "cpu")
    until(lambda: len(set(psutil.Process().children(recursive=True)) - before) >= 2)
    del runtime
    until(lambda: not set(psutil.Process().children(recursive=True)) - before, 20)


@pytest.mark.slow
def test_a_batch_that_kills_twice_fails_and_the_next_one_does_not(
    predictor: Predictor, runtime: ProcessRuntime
) -> None:
    [batch] = batches(predictor, 1)
    expected = logits_of(runtime, embed(runtime, batch))
    failed = threading.Event()

    def kill() -> None:
        while not failed.is_set():
            if (pid := runtime.pid) is not None:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)

    def ask() -> None:
        while True:
            embed(runtime, batch)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(RuntimeError, match=r"ended"):
            ask()
    finally:
        failed.set()
        killer.join()
    np.testing.assert_array_equal(logits_of(runtime, embed(runtime, batch)), expected)


def test_a_terminal_s_interrupt_does_not_end_it(predictor: Predictor, runtime: ProcessRuntime) -> None:
    [batch] = batches(predictor, 1)
    embed(runtime, batch)
    before = runtime.pid
    assert before is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(before, number)
    time.sleep(0.2)
    embed(runtime, batch)
    assert runtime.pid == before


@pytest.mark.slow
def test_it_ends_when_nobody_holds_it(predictor: Predictor) -> None:
    assert predictor.path is not None
    pid = ProcessRuntime(predictor.path, "cpu", compile=False).pid
    assert pid is not None
    until(lambda: not psutil.pid_exists(pid))


@pytest.mark.slow
def test_it_ends_with_whoever_started_it(predictor: Predictor) -> None:
    code = (
        "import sys, time; from pathlib import Path; from rakuten.model.process_runtime import ProcessRuntime\n"
        "runtime = ProcessRuntime(Path(sys.argv[1]), 'cpu', compile=False); print(runtime.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(predictor.path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    until(lambda: not psutil.pid_exists(pid))


def test_a_torn_bundle_is_refused_with_the_reason(predictor: Predictor, tmp_path: Path) -> None:
    bundle_of(tmp_path / "bundle", "ngram", None)
    weights = tmp_path / "bundle" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BundleError, match=rf"cannot be loaded on cpu: BundleError: .*{WEIGHTS}"):
        ProcessRuntime(tmp_path / "bundle", "cpu", compile=False)


@pytest.mark.acceptance  # of time: alone on the machine
def test_busy_threads_of_this_process_do_not_hold_it_up(tmp_path: Path) -> None:
    """Many short calls, as a GPU has them: torch lets go of Python's lock at each and waits to have it back."""
    deep = bundle_of(tmp_path / "bundle", "transformer", None, num_layers=12)
    [batch] = batches(deep, 1)
    arrays = batch.tokens.numpy()[:1, :8], batch.token_weights.numpy()[:1, :8]
    here, there = TorchRuntime(deep.classifier), ProcessRuntime(tmp_path / "bundle", "cpu", compile=False)
    ended = threading.Event()
    document = json.dumps([{"number": number, "text": str(number)} for number in range(800)])

    def read() -> None:
        while not ended.is_set():
            json.loads(document)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        times: dict[bool, list[float]] = {True: [], False: []}
        for number in range(12):
            runtime = there if number % 4 else here
            began = time.perf_counter()
            runtime.text(*arrays)
            times[runtime is there].append(time.perf_counter() - began)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert median(times[False]) > 3 * median(times[True])


@pytest.mark.slow
def test_it_answers_at_once_and_compiled_later(words: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    assert words.path is not None
    here = TorchRuntime(words.classifier)
    [batch] = batches(words, 1)
    expected = logits_of(here, embed(here, batch))
    with caplog.at_level(logging.INFO, "rakuten.model.process_runtime"):
        there = ProcessRuntime(words.path, "cpu")
        first = there.pid
        assert not there.is_compiled
        while not there.is_compiled:
            np.testing.assert_allclose(logits_of(there, embed(there, batch)), expected, atol=1e-5)
            assert "not compiled" not in caplog.text
            time.sleep(0.2)
    np.testing.assert_allclose(logits_of(there, embed(there, batch)), expected, atol=1e-4)
    assert first is not None
    until(lambda: not psutil.pid_exists(first))


def assert_never_compiled(words: Predictor, caplog: pytest.LogCaptureFixture, said: str) -> None:
    """Its compiled process gives up with `said` in the log, and the first one goes on."""
    assert words.path is not None
    with caplog.at_level(logging.WARNING, "rakuten.model.process_runtime"):
        there = ProcessRuntime(words.path, "cpu")
        until(lambda: said in caplog.text, 240)
    assert not there.is_compiled
    [batch] = batches(words, 1)
    assert np.isfinite(logits_of(there, embed(there, batch))).all()


@pytest.mark.acceptance
def test_a_compiler_that_fails_leaves_the_first_process(
    words: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "/nonexistent/compiler")
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    assert_never_compiled(words, caplog, "not compiled, going on without")


@pytest.mark.acceptance
def test_a_compiled_model_that_fails_its_canary_set_does_not_take_over(
    words: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    assert words.path is not None
    record_canary(words.path, words.preprocessor(mixed_products()))
    update_info(words.path, calibration={"temperature": 0.35})
    assert_never_compiled(words, caplog, "does not answer its canary set")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_service_s_runtime_is_one(predictor: Predictor) -> None:
    there = load_runtime(predictor, None, compile=False)
    assert isinstance(there, ProcessRuntime)
    here = TorchRuntime(predictor.classifier)
    [batch] = batches(predictor, 1)
    found, expected = (logits_of(each, embed(each, batch)) for each in (there, here))
    np.testing.assert_allclose(found, expected, atol=there.tolerance)
