"""What is served: saved and loaded without loss, refused when changed, and answering whatever it is asked."""

import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CamembertConfig, CamembertModel

from rakuten.config import ModelConfig
from rakuten.data.preprocess import Product
from rakuten.errors import BundleError
from rakuten.model.bundle import Predictor, save_bundle
from rakuten.model.bundle_files import LIMIT_BYTES, update_info
from rakuten.model.text import TransformerTower
from tests.model.tiny import (
    LABELS,
    NUM_CLASSES,
    TEXT_KINDS,
    batch_of,
    classifier,
    image_config,
    mixed_products,
    model_config,
    photo,
    preprocessor,
    product,
    text_config,
)

MODELS = [
    ("ngram", "test_resnet", "concat"),
    ("ngram", "test_vit", "late"),
    ("transformer", "test_efficientnet", "gated"),
    ("transformer", None, None),
    (None, "test_convnext", None),
]


def write(folder: Path, config: ModelConfig, **changes: Any) -> Predictor:
    """A bundle of an untrained model, and the Predictor that it was written from."""
    processor = preprocessor(config)
    model = classifier(config, processor)
    for module in model.modules():  # batch norm with a history, as after training
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    save_bundle(folder, model, processor, LABELS, config, lineage={"git_commit": "abc"}, **changes)
    return Predictor(
        model, processor, LABELS, {"calibration": changes.get("calibration", {"temperature": 1.0})}
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "bundle"
    write(folder, model_config("ngram", "test_resnet", "concat"))
    return folder


@pytest.fixture(scope="module")
def predictor(saved: Path) -> Predictor:
    return Predictor.load(saved)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """One of its own to break."""
    write(tmp_path / "bundle", model_config("transformer", "test_resnet", "gated"))
    return tmp_path / "bundle"


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: "-".join(part for part in kind if part))
def test_saved_and_loaded_answers_the_same(tmp_path: Path, kind: tuple[str | None, ...]) -> None:
    written = write(tmp_path / "b", model_config(*kind), calibration={"temperature": 1.7})  # type: ignore[arg-type]
    loaded = Predictor.load(tmp_path / "b")
    batch = batch_of(written.preprocessor, mixed_products())
    again = batch_of(loaded.preprocessor, mixed_products())
    assert torch.equal(batch.tokens, again.tokens)
    assert torch.equal(batch.pixels, again.pixels)
    assert torch.equal(written.logits(batch), loaded.logits(again))
    np.testing.assert_array_equal(written.probabilities(batch), loaded.probabilities(again))
    assert loaded.labels == LABELS
    assert not any(module.training for module in loaded.classifier.modules())


def test_a_pretrained_encoder_needs_its_folder_no_more(tmp_path: Path) -> None:
    """A bundle keeps the architecture; the folder or hub that the weights came from may be gone."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    encoder = CamembertModel(CamembertConfig(vocab_size=120, **sizes), add_pooling_layer=False)
    config = model_config(text=text_config("transformer", name="/gone", pretrained=True))
    processor = preprocessor(model_config("transformer"))
    scratch = model_config("transformer")
    model = classifier(scratch, processor)
    assert model.text is not None
    model.text.tower = TransformerTower(encoder, "mean")
    save_bundle(tmp_path / "b", model, processor, LABELS, config, lineage={})
    batch = batch_of(processor, mixed_products())
    assert torch.equal(Predictor.load(tmp_path / "b").logits(batch), model.eval()(batch).fused)


def test_pretrained_image_models_are_not_fetched_again(tmp_path: Path) -> None:
    scratch = model_config(None, image_config("test_resnet"))
    config = model_config(None, image_config("test_resnet", pretrained=True, checkpoint="/gone.safetensors"))
    processor = preprocessor(scratch)
    save_bundle(tmp_path / "b", classifier(scratch, processor), processor, LABELS, config, lineage={})
    assert Predictor.load(tmp_path / "b").predict([product(0)])


def test_nothing_but_json_and_safetensors(bundle: Path) -> None:
    files = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert files == {"bundle.json", "weights.safetensors", "tokenizer/tokenizer.json"}


def test_a_second_bundle_replaces_the_first(saved: Path, tmp_path: Path) -> None:
    write(tmp_path / "b", model_config("transformer", None))
    expected = write(tmp_path / "b", model_config("ngram", "test_resnet"))
    answer = Predictor.load(tmp_path / "b").predict(mixed_products())
    assert answer == expected.predict(mixed_products())
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_changed_fields_are_kept(bundle: Path) -> None:
    update_info(bundle, calibration={"temperature": 2.0}, metrics={"test": 1})
    loaded = Predictor.load(bundle)
    assert loaded.temperature == 2.0
    assert loaded.info["metrics"] == {"test": 1}
    assert loaded.info["lineage"] == {"git_commit": "abc"}


def test_temperature_softens_and_keeps_the_order(bundle: Path) -> None:
    before = Predictor.load(bundle).predict(mixed_products())
    update_info(bundle, calibration={"temperature": 5.0})
    after = Predictor.load(bundle).predict(mixed_products())
    assert [each.code for each in after] == [each.code for each in before]
    assert all(soft.confidence < hard.confidence for soft, hard in zip(after, before, strict=True))


# --- refused ------------------------------------------------------------------------------------------------


def edit(bundle: Path, change: Callable[[dict[str, Any]], object], *, honest: bool) -> None:
    """Change bundle.json; `honest` gives it the checksum that belongs to it."""
    info = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    change(info)
    if honest:
        body = {key: value for key, value in info.items() if key != "checksum"}
        info["checksum"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (bundle / "bundle.json").write_text(json.dumps(info), encoding="utf-8")


FILES = ("weights.safetensors", "tokenizer/tokenizer.json")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_seen(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} is missing, torn or changed"):
        Predictor.load(bundle)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [0, 50])
def test_a_torn_file_is_seen(bundle: Path, name: str, size: int) -> None:
    (bundle / name).write_bytes((bundle / name).read_bytes()[:size])
    with pytest.raises(BundleError, match=f"{name} is missing, torn or changed"):
        Predictor.load(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_seen(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match="no such file"):
        Predictor.load(bundle)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1, 2]", b'"text"', b"null", b"{}", b"\xff\xfe", b"\x80\x04."]
)
def test_a_torn_description_is_seen(bundle: Path, content: bytes) -> None:
    (bundle / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match="is torn"):
        Predictor.load(bundle)


@pytest.mark.parametrize("place", ["nowhere", "empty", "file"])
def test_no_bundle_there(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(BundleError, match="no bundle at"):
        Predictor.load(tmp_path / place)


def test_an_edited_description_is_seen(bundle: Path) -> None:
    edit(bundle, lambda info: info["labels"]["codes"].reverse(), honest=False)
    with pytest.raises(BundleError, match="changed after it was written"):
        Predictor.load(bundle)


@pytest.mark.parametrize("number", [0, 2, None, "1"])
def test_another_format_says_what_to_do(bundle: Path, number: object) -> None:
    edit(bundle, lambda info: info.update(format=number), honest=True)
    with pytest.raises(BundleError, match="of another format") as caught:
        Predictor.load(bundle)
    assert caught.value.expected == 1
    assert caught.value.fix is not None


@pytest.mark.parametrize("key", ["labels", "model", "preprocessing", "calibration", "hashes", "hf_config"])
def test_a_description_that_lacks_a_part(bundle: Path, key: str) -> None:
    edit(bundle, lambda info: info.pop(key), honest=True)
    with pytest.raises(BundleError, match="does not fit this version"):
        Predictor.load(bundle)


@pytest.mark.parametrize("codes", [[10, 40], [10, 40, 50, 60, 70, 80]])
def test_codes_that_are_not_the_models(bundle: Path, codes: list[int]) -> None:
    labels = {"codes": codes, "names": [str(code) for code in codes]}
    edit(bundle, lambda info: info.update(labels=labels), honest=True)
    with pytest.raises(BundleError, match="does not fit this version"):
        Predictor.load(bundle)


class _Trap:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", FILES)
def test_a_pickle_is_never_opened(bundle: Path, tmp_path: Path, name: str) -> None:
    """Not even with the hash that belongs to it."""
    trap = tmp_path / "sprung"
    (bundle / name).write_bytes(pickle.dumps(_Trap(trap)))
    with pytest.raises(BundleError):
        Predictor.load(bundle)
    digest = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    edit(bundle, lambda info: info["hashes"].update({name: digest}), honest=True)
    with pytest.raises(BundleError):
        Predictor.load(bundle)
    assert not trap.exists()


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "tokenizer/../../secret", "link", "a\\b", "", "a\0b"]
)
def test_names_do_not_lead_outside(bundle: Path, tmp_path: Path, name: str) -> None:
    """Not even the hash of a file elsewhere is told."""
    secret = tmp_path / "secret"
    secret.write_text("x", encoding="utf-8")
    (bundle / "link").symlink_to(secret)
    edit(bundle, lambda info: info["hashes"].update({name: "0"}), honest=True)
    with pytest.raises(BundleError, match="names a file outside itself") as caught:
        Predictor.load(bundle)
    assert hashlib.sha256(b"x").hexdigest() not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["model.pkl", "pytorch_model.bin", "tokenizer/state.pt", "README.md", ".hidden", "new/deep.txt"]
)
def test_a_file_that_is_not_listed_is_named(bundle: Path, tmp_path: Path, name: str) -> None:
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_bytes(pickle.dumps(_Trap(tmp_path / "sprung")))
    with pytest.raises(BundleError, match="does not list") as caught:
        Predictor.load(bundle)
    assert caught.value.got == name
    assert not (tmp_path / "sprung").exists()


def test_a_link_that_is_not_listed_is_named(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (bundle / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="does not list"):
        Predictor.load(bundle)


def with_hash(bundle: Path, name: str, content: bytes) -> None:
    """Replace a file and tell nobody."""
    (bundle / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit(bundle, lambda info: info["hashes"].update({name: digest}), honest=True)


@pytest.mark.parametrize(
    "content",
    [
        (2**40).to_bytes(8, "little") + b"{}",
        (2**63).to_bytes(8, "little") + b"{}",
        (99_000_000).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (64).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[99999999],"data_offsets":[0,4]}}'.ljust(64)
        + bytes(4),
    ],
    ids=["terabyte header", "negative header", "header past the end", "no tensors", "shape past the end"],
)
def test_a_safetensors_file_that_lies_is_refused(bundle: Path, content: bytes) -> None:
    with_hash(bundle, "weights.safetensors", content)
    with pytest.raises(BundleError, match="does not fit this version"):
        Predictor.load(bundle)


@pytest.mark.parametrize("hashes", [[], None, "x", {"weights.safetensors": 1}])
def test_hashes_that_are_none(bundle: Path, hashes: object) -> None:
    edit(bundle, lambda info: info.update(hashes=hashes), honest=True)
    with pytest.raises(BundleError, match="is torn"):
        Predictor.load(bundle)


def test_a_description_too_deep_or_too_large(bundle: Path) -> None:
    (bundle / "bundle.json").write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(BundleError, match="is torn"):
        Predictor.load(bundle)
    with (bundle / "bundle.json").open("r+b") as file:
        file.truncate(LIMIT_BYTES + 1)  # sparse
    with pytest.raises(BundleError, match="is too large"):
        Predictor.load(bundle)


# --- answers ------------------------------------------------------------------------------------------------


def test_an_answer_is_a_category_with_its_runners_up(predictor: Predictor) -> None:
    (answer,) = predictor.predict([product(0)], top_k=2)
    assert answer.code == answer.top[0][0]
    assert answer.name == LABELS.names[LABELS.codes.index(answer.code)]
    assert answer.confidence == answer.top[0][1] >= answer.top[1][1]
    assert len(answer.top) == 2
    (whole,) = predictor.predict([product(0)], top_k=99)
    assert {code for code, _ in whole.top} == set(LABELS.codes)
    assert sum(confidence for _, confidence in whole.top) == pytest.approx(1)
    assert len(whole.top) == NUM_CLASSES


def test_no_products_no_answers(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: "-".join(part for part in kind if part))
def test_answers_do_not_depend_on_the_company(tmp_path: Path, kind: tuple[str | None, ...]) -> None:
    written = write(tmp_path / "b", model_config(*kind))  # type: ignore[arg-type]
    products = [*mixed_products(), *(product(seed) for seed in range(20, 30))]

    def probs(chunks: list[list[Product]]) -> np.ndarray:
        return np.concatenate([written.probabilities(written.batch(written.preprocessor(c))) for c in chunks])

    whole = probs([products])
    np.testing.assert_allclose(probs([[each] for each in products]), whole, atol=1e-5)
    np.testing.assert_allclose(probs([products[:4], products[4:]]), whole, atol=1e-5)
    np.testing.assert_allclose(probs([products[::-1]])[::-1], whole, atol=1e-5)


def test_hiding_is_the_same_as_not_having(predictor: Predictor) -> None:
    full = [product(seed) for seed in range(3)]
    for hide, absent in (("image", {"image": False}), ("text", {"text": False})):
        hidden = predictor.predict(full, hide=hide)  # type: ignore[arg-type]
        lacking = predictor.predict([product(seed, **absent) for seed in range(3)])
        for one, other in zip(hidden, lacking, strict=True):
            assert one.code == other.code
            assert one.confidence == pytest.approx(other.confidence, abs=1e-6)


HOSTILE_TEXTS = {
    "empty": "",
    "blank": " \t\n\u00a0\u200b",
    "nul": "livre\0jeu",
    "surrogate": "livre \ud800 jeu",
    "huge": "piscine " * 100_000,
    "one word": "a" * 500_000,
    "markup": "<" * 50_000,
    "comments": "<!--" * 50_000,
    "entities": "&amp;" * 50_000,
    "emoji": "👩‍👩‍👧‍👦" * 2_000,
    "zalgo": "e" + "\u0301" * 20_000,
    "chinese": "书籍 游戏",
    "arabic": "كتاب\u202e لعبة",
    "special tokens": "<s></s><pad><unk><mask>",
    "no text at all": "<br/>&nbsp;<p></p>",
}


@pytest.mark.parametrize("text_kind", ["ngram", "transformer"])
def test_hostile_texts_get_an_answer(tmp_path: Path, text_kind: str) -> None:
    written = write(tmp_path / "b", model_config(text_kind, "test_resnet"))
    products = [Product(text, text) for text in HOSTILE_TEXTS.values()]
    products += [Product(text, None) for text in HOSTILE_TEXTS.values()]
    answers = written.predict(products)
    assert all(np.isfinite(answer.confidence) for answer in answers)
    nothing = written.predict([Product()])[0]
    for name, answer in zip(HOSTILE_TEXTS, answers, strict=False):
        if name in ("empty", "blank", "no text at all"):
            assert answer.confidence == pytest.approx(nothing.confidence, abs=1e-6), name


HOSTILE_IMAGES = {
    "empty": b"",
    "text": b"hello",
    "truncated": photo(0)[:100],
    "too many bytes": b"\xff\xd8\xff" + bytes(2_000_000),
    "html": b"<html><img src=x></html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "missing": Path("/nowhere/photo.jpg"),
    "folder": Path("/"),
}


@pytest.mark.parametrize("name", HOSTILE_IMAGES)
def test_a_bad_photo_is_a_state_and_says_so(predictor: Predictor, name: str) -> None:
    (answer,) = predictor.predict([Product("livre", None, HOSTILE_IMAGES[name])])
    (without,) = predictor.predict([Product("livre")])
    assert answer.image_problem
    assert without.image_problem is None
    assert answer.confidence == pytest.approx(without.confidence, abs=1e-6)


def test_a_product_of_nothing_gets_an_answer(predictor: Predictor) -> None:
    first, second = predictor.predict([Product(), Product("", "", None)])
    assert first.code in LABELS.codes
    assert first.confidence == pytest.approx(second.confidence, abs=1e-6)


def test_paths_and_bytes_are_the_same_photo(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(photo(5))
    by_path, by_bytes = predictor.predict([Product(image=path), Product(image=photo(5))])
    assert by_path.top[0][0] == by_bytes.top[0][0]
    assert by_path.confidence == pytest.approx(by_bytes.confidence, abs=1e-6)


_BLOCKED = """
import sys
NAMES = {"pytorch_lightning", "lightning", "hydra", "omegaconf", "mlflow", "pandas", "sklearn", "matplotlib", "rich",
         "scipy", "jinja2", "torchmetrics"}
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in NAMES else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from pathlib import Path
from rakuten.data.preprocess import Product
from rakuten.model.bundle import Predictor
products = [Product("livre jeu", None, Path(sys.argv[1]).read_bytes()), Product()]
answers = [Predictor.load(bundle).predict(products) for bundle in sys.argv[2:]]
print([len(each) for each in answers], sorted(NAMES & set(sys.modules)))
"""


@pytest.mark.slow
def test_a_bundle_needs_nothing_of_training(tmp_path: Path) -> None:
    """Loads and answers where only the core dependencies are installed."""
    for kind in TEXT_KINDS:
        write(tmp_path / kind, model_config(kind, "test_resnet", "gated"))
    (tmp_path / "photo.png").write_bytes(photo(0))
    command = [sys.executable, "-c", _BLOCKED, *(str(tmp_path / name) for name in ("photo.png", *TEXT_KINDS))]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[2, 2] []\n"
