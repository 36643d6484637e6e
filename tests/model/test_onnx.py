"""ONNX graphs answer as the model that they were made of, and no others are loaded."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    XLMRobertaConfig,
)

import rakuten.model.onnx_compare
import rakuten.model.onnx_graphs
from rakuten.data.batching import Batch, collate
from rakuten.data.preprocess import Example
from rakuten.data.text_encoder import Tokens
from rakuten.errors import BundleError
from rakuten.model.bundle import Predictor, save_bundle
from rakuten.model.bundle_files import checksum, update_info, write_info
from rakuten.model.canary import check_canary, record_canary
from rakuten.model.classifier import ProductClassifier
from rakuten.model.onnx_compare import weighted_f1
from rakuten.model.onnx_export import export_onnx
from rakuten.model.onnx_files import INT8, ONNX, REPORT, TORCH, read_export
from rakuten.model.onnx_graphs import write_graphs
from rakuten.model.onnx_runtime import OnnxRuntime, load_runtime
from rakuten.model.runtime import TOLERANCE, Runtime, TorchRuntime, embed, logits_of
from rakuten.model.text import TransformerTower
from tests.model.tiny import (
    FUSIONS,
    LABELS,
    TEXT_KINDS,
    TIMM_NAMES,
    classifier,
    image_config,
    mixed_products,
    model_config,
    preprocessor,
    product,
)

Kind = tuple[str | None, ...]
LENGTHS = (1, 2, 7, 24)  # tokens


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rakuten.model.onnx_compare, "BUDGET_S", 0.2)


def settled(model: ProductClassifier) -> ProductClassifier:
    """Batch norm with a history, and answers that differ from product to product."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    return model.eval()


def bundle_of(folder: Path, kind: Kind) -> Path:
    config = model_config(*kind)  # type: ignore[arg-type]
    processor = preprocessor(config)
    calibration = {"temperature": 0.2, "temperature_without_text": 0.4}
    model = settled(classifier(config, processor))
    save_bundle(folder, model, processor, LABELS, config, lineage={}, calibration=calibration)
    record_canary(folder, processor([*mixed_products(), *(product(seed) for seed in range(9, 20))]))
    return folder


def graphs_of(model: ProductClassifier, folder: Path, px: int = 32) -> OnnxRuntime:
    folder.mkdir()
    files = write_graphs(model, px, folder, quantized=False)[ONNX]
    return OnnxRuntime(folder, files, name=ONNX, tolerance=TOLERANCE, threads=1)


def batches(vocab: int, pad_id: int, px: int = 32) -> list[Batch]:
    """Batches of one and of several, every length, every state."""
    rng = np.random.default_rng(3)

    def example(length: int, text: bool, image: bool) -> Example:
        ids = rng.permutation(vocab - 5)[:length].astype(np.int32) + 5
        tokens = Tokens(ids, np.ones(len(ids), dtype=np.float32))
        return Example(
            tokens if text else None, rng.integers(0, 256, (3, px, px), dtype=np.uint8) if image else None
        )

    states = [(True, True), (True, False), (False, True), (False, False)]
    alone = [[example(length, *state)] for length in LENGTHS for state in states]
    together = [[example(length, *state) for length in LENGTHS for state in states]]
    return [collate(examples, pad_id=pad_id, image_px=px) for examples in [*alone, *together]]


def assert_alike(runtime: Runtime, model: ProductClassifier, parts: list[Batch], atol: float = 1e-5) -> None:
    """Probabilities; the logits of both runtimes go through the same softmax."""
    expected = TorchRuntime(model)
    seen = []
    for batch in parts:
        found, wanted = (torch.tensor(logits_of(each, embed(each, batch))) for each in (runtime, expected))
        assert found.dtype == torch.float32
        found, wanted = (torch.softmax(each.double() / 0.3, dim=1) for each in (found, wanted))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)
        seen.append(found)
    assert torch.cat(seen).std(dim=0).max() > 1e-3  # one answer for everything would be alike too


@pytest.fixture(
    scope="module",
    params=[
        ("transformer", "test_resnet", "gated"),
        pytest.param(("ngram", "test_vit", "late"), marks=pytest.mark.slow),
    ],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle and its graphs, int8 where there can be."""
    folder = tmp_path_factory.mktemp("onnx")
    bundle = bundle_of(folder / "bundle", request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rakuten.model.onnx_compare, "BUDGET_S", 0.2)
        export_onnx(bundle, folder / "onnx", quantized=True, threads=1)
    return bundle, folder / "onnx"


@pytest.fixture
def copied(exported: tuple[Path, Path], tmp_path: Path) -> tuple[Predictor, Path]:
    """A model and graphs of its own to break."""
    bundle, graphs = exported
    shutil.copytree(graphs, tmp_path / "onnx")
    return Predictor.load(bundle), tmp_path / "onnx"


def test_float32_graphs_answer_as_torch(exported: tuple[Path, Path]) -> None:
    predictor = Predictor.load(exported[0])
    encoder = predictor.preprocessor.text_encoder
    assert encoder is not None
    runtime = load_runtime(predictor, exported[1], "onnx", device="cpu", threads=1)
    assert runtime.name == ONNX
    assert_alike(runtime, predictor.classifier, batches(min(encoder.vocab_size, 300), encoder.pad_id))


def test_every_runtime_passes_the_canary_set(exported: tuple[Path, Path]) -> None:
    predictor = Predictor.load(exported[0])
    report = read_export(exported[1], predictor.info)
    assert report is not None
    for name in report.graphs:
        runtime = load_runtime(predictor, exported[1], name, device="cpu", threads=1)  # type: ignore[arg-type]
        result = check_canary(predictor, runtime)
        assert result.state == "ok"
        assert result.max_difference <= (1e-5 if name == ONNX else 0.05)


def test_int8_is_another_file_and_near(exported: tuple[Path, Path]) -> None:
    predictor = Predictor.load(exported[0])
    report = read_export(exported[1], predictor.info)
    assert report is not None
    is_transformer = isinstance(predictor.classifier.towers["text"], TransformerTower)
    assert (INT8 in report.graphs) == is_transformer
    if not is_transformer:
        return
    parity = report.measured[INT8].parity
    assert 0 < parity.max_difference <= 0.05
    assert parity.equal_codes >= 0.9
    assert report.graphs[INT8]["text"] != report.graphs[ONNX]["text"]
    assert report.graphs[INT8]["image"] == report.graphs[ONNX]["image"]


def test_the_report_says_what_was_made_and_measured(exported: tuple[Path, Path]) -> None:
    predictor = Predictor.load(exported[0])
    report = read_export(exported[1], predictor.info)
    assert report is not None
    assert report.bundle == checksum(predictor.info)
    files = {path.name for path in exported[1].iterdir()} - {REPORT}
    assert (
        files == set(report.hashes) == {name for files in report.graphs.values() for name in files.values()}
    )
    assert report.measured[TORCH].parity.max_difference == 0
    assert report.measured[ONNX].parity.max_difference <= 1e-5
    assert report.measured[ONNX].refused is None
    for measured in report.measured.values():
        assert [each.batch_size for each in measured.latency] == [1, 16]
        assert all(0 < each.median_ms <= each.p99_ms for each in measured.latency)
    costs = {
        name: np.prod([each.median_ms for each in measured.latency])
        for name, measured in report.measured.items()
        if measured.refused is None
    }
    assert report.chosen == min(costs, key=lambda name: costs[name])
    auto = load_runtime(predictor, exported[1], device="cpu", threads=1)
    assert auto.name == report.chosen


def test_widths_are_those_of_torch(exported: tuple[Path, Path]) -> None:
    predictor = Predictor.load(exported[0])
    runtime = load_runtime(predictor, exported[1], "onnx", device="cpu", threads=1)
    expected = TorchRuntime(predictor.classifier)
    assert (runtime.text_dim, runtime.image_dim) == (expected.text_dim, expected.image_dim)
    empty = runtime.text(np.empty((0, 4), np.int64), np.empty((0, 4), np.float32))
    assert empty.shape == (0, expected.text_dim)


# --- which runtime ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of(tmp_path_factory.mktemp("text") / "bundle", ("ngram", None, None))


def test_without_graphs_torch_serves_and_says_so(text_only: Path, caplog: pytest.LogCaptureFixture) -> None:
    predictor = Predictor.load(text_only)
    for folder in (None, text_only.parent / "nowhere"):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert load_runtime(predictor, folder, device="cpu").name == TORCH
        assert len(caplog.records) == 1
        with pytest.raises(BundleError, match="there are no ONNX graphs"):
            load_runtime(predictor, folder, "onnx", device="cpu")


def test_a_choice_is_obeyed(exported: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    predictor = Predictor.load(exported[0])
    assert load_runtime(predictor, exported[1], "torch", device="cpu").name == TORCH
    report = read_export(exported[1], predictor.info)
    assert report is not None
    if INT8 not in report.graphs:
        with pytest.raises(BundleError, match="there are no such graphs"):
            load_runtime(predictor, exported[1], "onnx-int8", device="cpu")


def test_int8_is_made_only_where_it_is_asked_for(text_only: Path, tmp_path: Path) -> None:
    assert set(export_onnx(text_only, tmp_path / "onnx", threads=1).graphs) == {ONNX}


def test_a_runtime_that_answers_otherwise_is_not_chosen(
    text_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph whose answers are off is written and measured, and torch serves."""
    fill = ProductClassifier.head

    def shifted(self: ProductClassifier, *inputs: Any) -> Any:
        logits = fill(self, *inputs)
        off = 0.05 * torch.arange(len(LABELS)) if torch.compiler.is_exporting() else 0
        return replace(logits, fused=logits.fused + off)

    monkeypatch.setattr(ProductClassifier, "head", shifted)
    report = export_onnx(text_only, tmp_path / "onnx", threads=1)
    assert report.chosen == TORCH
    assert "a probability is off by" in (report.measured[ONNX].refused or "")
    predictor = Predictor.load(text_only)
    runtime = load_runtime(predictor, tmp_path / "onnx", "onnx", device="cpu")
    with pytest.raises(BundleError, match="does not answer its canary set"):
        check_canary(predictor, runtime)


@pytest.mark.slow
def test_with_labels_the_f1_is_compared(text_only: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(text_only)
    examples = predictor.preprocessor([product(seed, image=False) for seed in range(30)])
    labels = np.arange(30) % len(LABELS)
    report = export_onnx(text_only, tmp_path / "onnx", examples=examples, labels=labels, threads=1)
    parity = report.measured[ONNX].parity
    assert parity.num_products == 30
    assert parity.f1_drop == pytest.approx(0, abs=1e-9)


def test_weighted_f1_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    labels, answers = rng.integers(0, 5, (2, 200))
    expected = f1_score(labels, answers, average="weighted", labels=np.unique(labels))
    assert weighted_f1(answers, labels) == pytest.approx(expected)


@pytest.mark.slow
def test_a_bundle_without_canary_set_is_measured_on_noise(tmp_path: Path) -> None:
    config = model_config("ngram", None, None)
    processor = preprocessor(config)
    save_bundle(tmp_path / "b", classifier(config, processor), processor, LABELS, config, lineage={})
    report = export_onnx(tmp_path / "b", tmp_path / "onnx", threads=1)
    assert report.measured[ONNX].refused is None
    assert report.measured[ONNX].parity.num_products == 32


# --- refused ------------------------------------------------------------------------------------------------


def test_graphs_of_another_bundle_are_refused(copied: tuple[Predictor, Path]) -> None:
    predictor, folder = copied
    predictor.info["calibration"] = {"temperature": 9.0}
    with pytest.raises(BundleError, match="were made of another bundle") as caught:
        load_runtime(predictor, folder, device="cpu")
    assert caught.value.fix


def test_graphs_of_a_bundle_as_it_was_are_refused(exported: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(exported[0], tmp_path / "bundle")
    update_info(tmp_path / "bundle", metrics={"test": 1})
    with pytest.raises(BundleError, match="were made of another bundle"):
        load_runtime(Predictor.load(tmp_path / "bundle"), exported[1], device="cpu")


def _flip(folder: Path) -> None:
    content = bytearray((folder / "head.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "head.onnx").write_bytes(content)


def _edit(folder: Path) -> None:
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    report["chosen"] = "torch"
    (folder / REPORT).write_text(json.dumps(report), encoding="utf-8")


def _incomplete(folder: Path) -> None:
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    del report["measured"]
    write_info(folder, report, REPORT)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped bit": (_flip, "head.onnx is missing, torn or changed"),
    "torn": (lambda folder: (folder / "text.onnx").write_bytes(b"\x08"), "text.onnx is missing"),
    "gone": (lambda folder: (folder / "image.onnx").unlink(), "image.onnx is missing"),
    "unlisted": (lambda folder: (folder / "x.pkl").write_bytes(b"\x80\x04."), "does not list"),
    "edited": (_edit, "was changed after it was written"),
    "not JSON": (lambda folder: (folder / REPORT).write_bytes(b"{"), "is torn"),
    "incomplete": (_incomplete, "does not fit this version"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_graphs_are_refused(copied: tuple[Predictor, Path], name: str) -> None:
    predictor, folder = copied
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(BundleError, match=message):
        load_runtime(predictor, folder, device="cpu")


def test_a_graph_that_onnxruntime_cannot_load_is_refused(tmp_path: Path) -> None:
    (tmp_path / "head.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match="onnxruntime cannot load"):
        OnnxRuntime(tmp_path, {"head": "head.onnx"}, name=ONNX, tolerance=1e-4)


def test_a_failed_export_leaves_what_was_there(
    text_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "before").touch()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("cannot trace this")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(BundleError, match="cannot be written as ONNX"):
        export_onnx(text_only, tmp_path / "onnx", threads=1)
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]
    assert (tmp_path / "onnx" / "before").is_file()


# --- every tower and fusion ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("text", TEXT_KINDS)
def test_every_text_tower_and_fusion(tmp_path: Path, text: str, fusion: str) -> None:
    config = model_config(text, "test_convnext", fusion)
    processor = preprocessor(config)
    assert processor.text_encoder is not None
    model = settled(classifier(config, processor))
    runtime = graphs_of(model, tmp_path / "onnx")
    vocab = min(processor.text_encoder.vocab_size, 300)
    assert_alike(runtime, model, batches(vocab, processor.text_encoder.pad_id))


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM_NAMES)
def test_every_image_tower(tmp_path: Path, name: str) -> None:
    config = model_config(None, image_config(name, image_px=64))
    model = settled(classifier(config))
    assert_alike(graphs_of(model, tmp_path / "onnx", 64), model, batches(30, 0, 64))


ENCODERS = {
    "bert": BertConfig,
    "xlm-roberta": XLMRobertaConfig,
    "distilbert": DistilBertConfig,
    "electra": ElectraConfig,
    "mpnet": MPNetConfig,
}


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", pytest.param("cls", marks=pytest.mark.acceptance)])
@pytest.mark.parametrize("name", ENCODERS)
def test_every_family_of_encoders(tmp_path: Path, name: str, pooling: str) -> None:
    """Positions from 0 or from the padding id on, relative ones, with and without token types."""
    torch.manual_seed(1)
    sizes: dict[str, Any] = {"vocab_size": 60, "pad_token_id": 1, "max_position_embeddings": 40}
    if name == "distilbert":
        sizes |= {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    else:
        sizes |= {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        }
    config = model_config("transformer", None, None)
    model = classifier(config)
    encoder = AutoModel.from_config(ENCODERS[name](**sizes))
    model = ProductClassifier(config, len(LABELS), TransformerTower(encoder, pooling), None).eval()
    assert_alike(graphs_of(model, tmp_path / "onnx"), model, batches(60, 1))


@pytest.mark.slow
def test_large_weights_lie_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they must from 2 GiB on."""
    monkeypatch.setattr(rakuten.model.onnx_graphs, "INLINE_BYTES", 1_000)
    bundle = bundle_of(tmp_path / "bundle", ("transformer", None, None))
    report = export_onnx(bundle, tmp_path / "onnx", quantized=True, threads=1)
    assert {"text.onnx.data", "text.int8.onnx.data"} <= set(report.hashes)
    predictor = Predictor.load(bundle)
    for name in report.graphs:
        runtime = load_runtime(predictor, tmp_path / "onnx", name, device="cpu", threads=1)  # type: ignore[arg-type]
        assert check_canary(predictor, runtime).state == "ok"
