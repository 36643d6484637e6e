"""The schema of conf/: types and ranges. Values live in the YAML files and nowhere else.

Every class is frozen and refuses unknown keys. Nothing here imports torch, Hydra or OmegaConf, so that the
command line can check itself in well under a second and a served bundle needs neither. What turns a command
line into these objects is `rakuten.cli`.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from rakuten.data.labels import Code, LabelSet

Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
LayerDecay = Annotated[float, Field(gt=0, le=1)]  # learning rate factor per layer group, from the head down
NonNegativeInt = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]

# Lax on purpose where YAML and the command line cannot tell "1e-3" from a string or 1 from 1.0;
# everything that is not the field's type after that is an error.
schema = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))


# --- data ---------------------------------------------------------------------------------------------------


@schema
class Columns:
    """The headers that a catalogue's CSV files use for the fields this project knows."""

    index: str  # the joining key of X and Y; "" is the unnamed first column of the challenge's files
    designation: str
    description: str
    productid: str
    imageid: str
    label: str


@schema
class Files:
    """Where a catalogue's files lie below `data.root`; of several names the first that exists is read."""

    x_train: list[str]
    y_train: list[str]
    x_test: list[str]
    images_train: str
    images_test: str
    image_name: str  # with {imageid} and {productid}

    @model_validator(mode="after")
    def _image_name_is_a_file_name(self) -> "Files":
        stem = self.image_name.replace("{imageid}", "").replace("{productid}", "")
        if "{" in stem or "/" in stem or stem == self.image_name:
            raise ValueError("must hold {imageid} or {productid}, no other braces and no slash")
        return self


@schema
class SplitConfig:
    """Held-out shares. Test and calib depend on `salt` and each product's id alone, val on the run's seed too."""

    test: Fraction
    calib: Fraction
    val: Fraction
    salt: int | str
    near_duplicate: Fraction  # Jaccard similarity of character shingles from which two texts count as one

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "SplitConfig":
        if self.test + self.calib + self.val >= 1:
            raise ValueError("test + calib + val must leave something to train on (sum < 1)")
        return self


@schema
class Limits:
    """What is refused before it is decoded."""

    image_bytes: Count
    image_pixels: Count
    text_chars: Count  # longer fields are cut at a word when they are cleaned, never in the raw table


@schema
class DemoConfig:
    """The generated catalogue (`rakuten.data.demo`)."""

    num_products: Annotated[int, Field(ge=100)]
    num_unlabelled: Count
    seed: NonNegativeInt
    image_px: Annotated[int, Field(ge=32, le=2000)]
    label_noise: Probability


@schema
class DataConfig:
    """A catalogue: where it lies, how its files and columns are called, what its codes mean, how it is split."""

    name: Name
    root: Path
    interim_dir: Path
    processed_dir: Path
    encoding: str
    columns: Columns
    files: Files
    codes: Annotated[dict[Code, str], Field(min_length=2)]
    split: SplitConfig
    limits: Limits
    demo: DemoConfig | None

    @property
    def labels(self) -> LabelSet:
        return LabelSet.from_mapping(self.codes)


# --- model --------------------------------------------------------------------------------------------------


@schema
class NgramConfig:
    """Hashed word and character n-grams into an embedding bag: the strong cheap text tower."""

    kind: Literal["ngram"]
    num_buckets: Annotated[int, Field(ge=256)]
    word_ngrams: Annotated[list[Count], Field(min_length=2, max_length=2)]  # [shortest, longest], in words
    char_ngrams: Annotated[
        list[NonNegativeInt], Field(min_length=2, max_length=2)
    ]  # in characters; [0, 0] for none
    max_tokens: Count  # n-grams kept of one product
    description_weight: Annotated[float, Field(gt=0, le=1)]  # of a description's word, where the title's is 1
    embedding_dim: Count
    init_std: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # 0 makes it a linear classifier on TF-IDF
    norm: bool  # layer norm on the pooled vector
    dropout: Probability  # share of n-grams dropped in training
    lr: Positive
    eps: Positive  # Adam's; a large one keeps rare n-grams from taking full-size steps
    weight_decay: NonNegative
    layer_decay: LayerDecay
    freeze: NonNegativeInt


@schema
class TransformerConfig:
    """Any Hugging Face encoder, from a hub name or a local folder; safetensors only, never remote code."""

    kind: Literal["transformer"]
    name: str  # hub name or folder
    pretrained: (
        bool  # False builds the architecture below from scratch, with a tokenizer trained on the corpus
    )
    max_tokens: Annotated[int, Field(ge=8)]
    pooling: Literal["mean", "cls"]
    vocab_size: Annotated[int, Field(ge=64)]
    hidden_size: Count
    num_layers: Count
    num_heads: Count
    dropout: Probability
    lr: Positive
    eps: Positive
    weight_decay: NonNegative
    layer_decay: LayerDecay
    freeze: NonNegativeInt  # layer groups that do not learn, from the input up


@schema
class TimmConfig:
    """Any timm model without its classifier."""

    kind: Literal["timm"]
    name: str  # timm's model name, with its weights' tag where pretrained: convnext_base.fb_in22k
    pretrained: bool
    checkpoint: Path | None  # a local .safetensors file instead of the hub
    image_px: Annotated[int, Field(ge=16, le=2048)]
    trim_border: bool  # cut the white frame that catalogue photos have
    drop_path: Probability
    dropout: Probability
    lr: Positive
    eps: Positive
    weight_decay: NonNegative
    layer_decay: LayerDecay
    freeze: NonNegativeInt  # layer groups that do not learn, from the input up


@schema
class AugmentConfig:
    """Random changes of training inputs; none at evaluation."""

    drop_description: Fraction  # share of products that lose it
    drop_stop_words: Fraction  # share of products that lose all of them, as catalogues in normalised form do
    drop_words: Fraction  # share of single words
    flip: Fraction
    shift: Fraction  # largest translation, share of the side
    scale: Fraction  # largest zoom in or out
    color: Fraction  # largest change of brightness, contrast and saturation
    erase: Fraction  # share of photos with a rectangle erased


@schema
class FusionConfig:
    """How two towers become one answer."""

    kind: Literal["concat", "gated", "late"]
    hidden_dim: Count
    dropout: Probability
    image_weight: NonNegative  # late only: what the photo's logits count at first, where the text's count 1


@schema
class ModelConfig:
    """Towers and their fusion; a tower that is null is not built, and fusion must then be null too."""

    name: Name
    text: Annotated[NgramConfig | TransformerConfig, Field(discriminator="kind")] | None
    image: TimmConfig | None
    fusion: FusionConfig | None
    modality_dropout: Probability  # chance to hide one modality of a training row that has both
    aux_text: NonNegative  # weight of the text tower's own cross-entropy beside the fused loss
    aux_image: NonNegative  # of the image tower's
    augment: AugmentConfig

    @model_validator(mode="after")
    def _towers_and_fusion_agree(self) -> "ModelConfig":
        towers = sum(tower is not None for tower in (self.text, self.image))
        if towers == 0:
            raise ValueError("model.text and model.image are both null: nothing to train")
        if (towers == 2) != (self.fusion is not None):
            raise ValueError("model.fusion is for two towers: set it with both text and image, null with one")
        return self


# --- training -----------------------------------------------------------------------------------------------


@schema
class OptimConfig:
    """AdamW with warm-up and cosine decay."""

    lr: Positive  # of fusion and heads; each tower brings its own
    weight_decay: NonNegative  # of fusion and heads
    betas: Annotated[list[Probability], Field(min_length=2, max_length=2)]
    warmup: Fraction  # share of all steps
    grad_clip: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # largest gradient norm; 0 for none
    loss: Literal["cross_entropy", "squared_hinge"]
    label_smoothing: Probability  # of cross-entropy
    class_weight: Literal["none", "balanced", "sqrt"]
    ema: Probability  # decay of the averaged weights that are evaluated and kept; 0 for none


@schema
class TrainerConfig:
    """What Lightning's Trainer gets, and how batches are cut."""

    accelerator: Literal["cpu", "gpu"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    max_epochs: Count
    min_epochs: NonNegativeInt  # before, training does not stop and no epoch counts as the best
    patience: Count  # validations without a better weighted F1 before training stops
    batch_size: Count  # products at most
    token_budget: Count  # padded tokens of a batch at most
    num_workers: NonNegativeInt
    channels_last: bool
    compile: bool
    fused: bool
    deterministic: bool
    limit_batches: NonNegativeInt  # batches an epoch at most; 0 for all
    threads: NonNegativeInt  # CPU threads; 0 for torch's own choice


@schema
class TrackingConfig:
    """Where runs are recorded."""

    kind: Literal["mlflow", "off"]
    uri: str
    artifact_root: str | None
    experiment: str


@schema
class TrainConfig:
    """All of scripts/train.py, ingest.py and features.py."""

    data: DataConfig
    model: ModelConfig
    optim: OptimConfig
    trainer: TrainerConfig
    tracking: TrackingConfig
    seed: NonNegativeInt
    resume: bool
    outputs_dir: Path
    bootstrap: NonNegativeInt  # resamples behind each interval of the report; 0 for none
    tags: dict[str, str]
    debug: bool  # show tracebacks


# --- other verbs --------------------------------------------------------------------------------------------


@schema
class EvaluateConfig:
    """All of scripts/evaluate.py."""

    bundle: Path | None  # null: the newest run's
    data: DataConfig
    split: Literal["train", "val", "calib", "test"]
    output: Path | None  # null: evaluation/<split> beside the bundle
    bootstrap: NonNegativeInt
    batch_size: Count
    seed: NonNegativeInt
    outputs_dir: Path
    debug: bool


@schema
class PredictConfig:
    """All of scripts/predict.py."""

    bundle: Path | None  # null: the newest run's
    data: DataConfig
    input: Path | None  # null: the catalogue's X_test
    images: Path | None  # null: the catalogue's test image folder, where it is there
    output: Path | None  # null: <processed_dir>/predictions.csv
    top_k: Count
    batch_size: Count
    num_workers: NonNegativeInt
    submission: bool
    outputs_dir: Path
    debug: bool
