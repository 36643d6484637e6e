"""The schema of a model, its towers and their fusion: conf/model/."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from rakuten.config.types import (
    Count,
    Fraction,
    LayerDecay,
    Name,
    NonNegative,
    NonNegativeInt,
    Positive,
    Probability,
    schema,
)


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
