"""Every config that is shipped composes, and every model in it can be built."""

import pytest
import torch
from pydantic import TypeAdapter

from rakuten.cli import CONF_DIR, compose
from rakuten.config import (
    DoctorConfig,
    EvaluateConfig,
    ModelConfig,
    PipelineConfig,
    PredictConfig,
    PromoteConfig,
    TrainConfig,
    WatchConfig,
)
from rakuten.config_io import to_plain
from rakuten.data.fit_encoder import fit_encoder
from rakuten.data.preprocess import Preprocessor
from rakuten.errors import ConfigError
from rakuten.experiment.optim import build_optimizer, freeze
from rakuten.model.bundle import build_classifier
from tests.model.tiny import LIMITS, batch_of, corpus, mixed_products

NUM_CLASSES = 5
OPTIONS = sorted(
    (str(path.parent.relative_to(CONF_DIR)), path.stem)
    for path in CONF_DIR.rglob("*.yaml")
    if path.parent != CONF_DIR
)
MODELS = [pair for pair in OPTIONS if pair[0].split("/")[0] in ("model", "experiment")]
OPTIONS.remove(("data", "base"))  # what catalogues share, and what each must say for itself
VERBS = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "doctor": DoctorConfig,
    "pipeline": PipelineConfig,
    "promote": PromoteConfig,
    "drift": WatchConfig,
}


def name_of(value: object) -> str:
    return "=".join(value) if isinstance(value, tuple) else str(value)


def overrides(group: str, option: str) -> list[str]:
    """How the option is chosen; one of model/text stands in a model that has a text."""
    needs = dict.fromkeys(("model/text", "model/image", "model/fusion"), "model=fusion")
    needs |= dict.fromkeys(("hydra/sweeper/sampler", "hydra/sweeper/pruner"), "hydra/sweeper=optuna")
    return [*([needs[group]] if group in needs else []), f"{group}={option}"]


def shrunk(config: TrainConfig) -> ModelConfig:
    """The same model, of the sizes of a test and without pretrained weights."""
    values = to_plain(config.model)
    text, image = values["text"], values["image"]
    if text is not None and text["kind"] == "transformer":
        text |= {"pretrained": False, "vocab_size": 120, "hidden_size": 24, "num_layers": 2, "num_heads": 2}
    if text is not None and text["kind"] == "ngram":
        text |= {"num_buckets": 1_000}
    if image is not None:
        image |= {"pretrained": False, "checkpoint": None, "image_px": 64}
        image["name"] = image["name"].replace("convnext_base", "convnext_atto").partition(".")[0]
    return TypeAdapter(ModelConfig).validate_python(values)


def test_the_folder_is_found() -> None:
    groups = {group for group, _ in OPTIONS}
    assert {
        "data",
        "model",
        "model/text",
        "model/image",
        "model/fusion",
        "trainer",
        "optim",
        "tracking",
    } <= groups


@pytest.mark.parametrize("pair", OPTIONS, ids=name_of)
def test_every_option_composes(pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    group, option = pair
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")  # as .env says it to tracking=server
    config = compose("train", overrides(group, option))
    assert isinstance(config, TrainConfig)


def test_the_base_of_catalogues_says_what_each_must_add() -> None:
    with pytest.raises(ConfigError) as caught:
        compose("train", ["data=base"])
    assert all(f"`data.{key}` has no value" in str(caught.value) for key in ("name", "root", "codes"))
    config = compose("train", ["data=base", "data.name=shop", "data.root=x", "data.codes={1: a, b2: c}"])
    assert config.data.labels.codes == (1, "b2")


# conf/serve.yaml is read by the service, which has no Hydra.
@pytest.mark.parametrize("verb", sorted({path.stem for path in CONF_DIR.glob("*.yaml")} - {"serve"}))
def test_every_verb_composes(verb: str) -> None:
    assert isinstance(compose(verb, [], VERBS[verb]), VERBS[verb])


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"pipeline"}))  # which names files of conf/ alone
@pytest.mark.parametrize("catalogue", sorted(option for group, option in OPTIONS if group == "data"))
def test_every_catalogue_goes_with_every_verb(verb: str, catalogue: str) -> None:
    config = compose(verb, [f"data={catalogue}"], VERBS[verb])
    assert len(config.data.labels) >= 2


@pytest.mark.parametrize("pair", MODELS, ids=name_of)
def test_every_model_is_built_and_answers(pair: tuple[str, str]) -> None:
    full = compose("train", overrides(*pair))
    model = shrunk(full)
    encoder = None if model.text is None else fit_encoder(model.text, corpus())
    image_px = None if model.image is None else model.image.image_px
    processor = Preprocessor(encoder, image_px, False, LIMITS)
    torch.manual_seed(0)
    classifier = build_classifier(model, NUM_CLASSES, processor)
    freeze(classifier, model)
    optimizer = build_optimizer(classifier, model, full.optim, fused=False)
    learning = {id(p) for p in classifier.parameters() if p.requires_grad}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == learning
    logits = classifier.eval()(batch_of(processor, mixed_products())).fused
    assert logits.shape == (5, NUM_CLASSES)
    assert logits.isfinite().all()


@pytest.mark.parametrize("trainer", sorted(option for group, option in OPTIONS if group == "trainer"))
@pytest.mark.parametrize("model", sorted(option for group, option in OPTIONS if group == "model"))
def test_every_model_goes_with_every_trainer(model: str, trainer: str) -> None:
    config = compose("train", [f"model={model}", f"trainer={trainer}"])
    assert config.model.name == model
