"""The canary set finds what would make a bundle answer otherwise than when it was made."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import rakuten.data.preprocess
from rakuten.data.clean import clean
from rakuten.errors import BundleError
from rakuten.model.bundle import Predictor, save_bundle
from rakuten.model.bundle_files import check_bundle, read_info, update_info
from rakuten.model.canary import CANARY, TEXTS, check_canary, read_canary, record_canary, run_canary
from rakuten.model.runtime import TorchRuntime
from tests.model.tiny import LABELS, classifier, mixed_products, model_config, preprocessor, product

KINDS = [
    ("ngram", "test_resnet", "concat"),
    ("transformer", "test_vit", "late"),
    ("transformer", None, None),
    (None, "test_resnet", None),
]


def make(folder: Path, kind: tuple[str | None, ...]) -> Path:
    config = model_config(*kind)  # type: ignore[arg-type]
    processor = preprocessor(config)
    save_bundle(
        folder,
        classifier(config, processor),
        processor,
        LABELS,
        config,
        lineage={},
        calibration={"temperature": 0.3},
    )
    record_canary(folder, processor([*mixed_products(), *(product(seed) for seed in range(9, 14))]))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("canary") / "bundle", KINDS[0])


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """One of its own to break."""
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def loaded(bundle: Path) -> tuple[Predictor, TorchRuntime]:
    predictor = Predictor.load(bundle)
    return predictor, TorchRuntime(predictor.classifier)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(part for part in kind if part))
def test_a_bundle_answers_its_own(tmp_path: Path, kind: tuple[str | None, ...]) -> None:
    predictor, runtime = loaded(make(tmp_path / "bundle", kind))
    result = check_canary(predictor, runtime)
    assert result.state == "ok"
    assert result.num_products == 10
    assert result.equal_codes == 1
    assert result.max_difference < 1e-6
    assert 0 < result.entropy == pytest.approx(result.expected_entropy, abs=1e-5)


def test_it_holds_every_state_and_no_text_of_the_products(made: Path) -> None:
    canary = read_canary(Predictor.load(made))
    assert canary is not None
    states = {(each.tokens is not None, each.pixels is not None) for each in canary.examples}
    assert states == {(True, True), (True, False), (False, True), (False, False)}
    fresh = preprocessor(model_config(*KINDS[0]))([product(9)])[0]  # type: ignore[arg-type]
    kept = canary.examples[5]
    np.testing.assert_array_equal(kept.tokens.ids, fresh.tokens.ids)  # type: ignore[union-attr]
    np.testing.assert_array_equal(kept.pixels, fresh.pixels)
    assert read_info(made)["canary_texts"] == [list(text) for text in TEXTS]
    words = (product(9).designation or "").encode()
    assert not any(words in path.read_bytes() for path in made.rglob("*") if path.is_file())


def test_the_sentences_are_hostile_enough() -> None:
    text = "\n".join(f"{title} {description}" for title, description in TEXTS)
    for needed in ("<b>", "&nbsp;", "&amp;eacute;", "é", "ß", "🎁", "\u200b", "Ã"):
        assert needed in text
    assert ("", "") in TEXTS
    assert max(len(description) for _, description in TEXTS) >= 4_990


def test_a_bundle_of_before_has_none_and_still_loads(tmp_path: Path) -> None:
    config = model_config("ngram", None, None)
    processor = preprocessor(config)
    save_bundle(tmp_path / "b", classifier(config, processor), processor, LABELS, config, lineage={})
    predictor, runtime = loaded(tmp_path / "b")
    assert run_canary(predictor, runtime).state == "absent"
    assert check_canary(predictor, runtime).state == "absent"


def test_other_weights_are_found(bundle: Path) -> None:
    predictor, runtime = loaded(bundle)
    with torch.no_grad():
        predictor.classifier.fusion.output.bias[0] += 0.05  # type: ignore[union-attr, index]
    assert run_canary(predictor, runtime).state == "failed"
    with pytest.raises(BundleError, match="does not answer its canary set") as caught:
        check_canary(predictor, runtime)
    assert "a probability is off by" in str(caught.value.got)


def test_no_number_is_a_failure(bundle: Path) -> None:
    predictor, runtime = loaded(bundle)
    with torch.no_grad():
        predictor.classifier.fusion.output.bias[:] = float("nan")  # type: ignore[union-attr, index]
    assert run_canary(predictor, runtime).state == "failed"


def test_a_collapsed_model_has_no_entropy(bundle: Path) -> None:
    predictor, runtime = loaded(bundle)
    with torch.no_grad():
        predictor.classifier.fusion.output.bias[3] += 1000  # type: ignore[union-attr, index]
    result = run_canary(predictor, runtime)
    assert result.entropy == pytest.approx(0, abs=1e-6)
    assert result.expected_entropy > 0.5


def test_another_calibration_is_found(bundle: Path) -> None:
    update_info(bundle, calibration={"temperature": 0.35})
    with pytest.raises(BundleError, match="does not answer its canary set"):
        check_canary(*loaded(bundle))


def test_another_cleaner_is_found_and_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        rakuten.data.preprocess, "clean", lambda text, n: clean(text, n).replace("guillemets", "")
    )
    with pytest.raises(BundleError) as caught:
        check_canary(*loaded(bundle))
    assert "CAFÉ" in str(caught.value.got)
    assert "Harry Potter" not in str(caught.value.got)


def test_another_tokenizer_is_found(bundle: Path) -> None:
    predictor, runtime = loaded(bundle)
    other = preprocessor(model_config("transformer", "test_resnet")).text_encoder
    predictor.preprocessor = replace(predictor.preprocessor, text_encoder=other)
    result = run_canary(predictor, runtime)
    assert len(result.failures) == len(TEXTS) - 1  # all but the empty one


def test_a_coarser_runtime_has_its_own_tolerance(bundle: Path) -> None:
    predictor, _ = loaded(bundle)
    assert check_canary(predictor, TorchRuntime(predictor.classifier, precision="bf16")).state == "ok"
    coarse = TorchRuntime(predictor.classifier)
    coarse.tolerance = 1.0
    with torch.no_grad():
        predictor.classifier.fusion.output.bias[3] += 1000  # type: ignore[union-attr, index]
    result = run_canary(predictor, coarse)
    assert "of the answers are the same" in result.failures[0]


def test_a_set_that_was_changed_or_does_not_fit_is_refused(bundle: Path) -> None:
    update_info(bundle, canary_texts=[["one", ""]])
    with pytest.raises(BundleError, match="cannot be read"):
        check_canary(*loaded(bundle))
    content = bytearray((bundle / CANARY).read_bytes())
    content[-1] ^= 1
    (bundle / CANARY).write_bytes(content)
    with pytest.raises(BundleError, match=f"{CANARY} is missing, torn or changed"):
        check_bundle(bundle)
