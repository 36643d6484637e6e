"""The tokenizer that a model config asks for: hashed, trained on the corpus, or a pretrained model's own."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rakuten.config import NgramConfig, TransformerConfig
from rakuten.data.text_encoder import NgramEncoder, SubwordEncoder, TextEncoder
from rakuten.errors import WeightsError

if TYPE_CHECKING:
    from tokenizers import Tokenizer, models


def fit_encoder(config: NgramConfig | TransformerConfig, texts: Iterable[str]) -> TextEncoder:
    """An encoder for `config`; `texts` (training products alone) are read only where there is something to learn."""
    if isinstance(config, NgramConfig):
        return NgramEncoder.from_config(config)
    if config.pretrained:
        return _pretrained(config)
    return train_unigram(texts, config.vocab_size, config.max_tokens)


def encoder_settings(config: NgramConfig | TransformerConfig) -> dict[str, object]:
    """The settings that decide token ids; a sweep over the others need not tokenize again."""
    if isinstance(config, NgramConfig):
        names: tuple[str, ...] = (
            "kind",
            "num_buckets",
            "word_ngrams",
            "char_ngrams",
            "max_tokens",
            "description_weight",
        )
    else:
        names = ("kind", "name", "pretrained", "max_tokens", "vocab_size")
    return {name: getattr(config, name) for name in names}


def train_unigram(texts: Iterable[str], vocab_size: int, max_tokens: int) -> SubwordEncoder:
    """A Unigram tokenizer (Kudo, 2018) in CamemBERT's layout: <s> title </s></s> description </s>."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.model = _reproducible(tokenizer, len(special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    return SubwordEncoder(tokenizer, special.index("<pad>"), max_tokens)


def _reproducible(tokenizer: "Tokenizer", num_special: int) -> "models.Unigram":
    """The trained model with ids that follow from the texts alone.

    The trainer sums over a hash map in an order of its own: scores differ in their last digits from run to run, and
    pieces of equal score change places.
    """
    from tokenizers import models

    trained = json.loads(tokenizer.to_str())["model"]
    pieces = [(piece, round(score, 6)) for piece, score in trained["vocab"]]
    learned = sorted(pieces[num_special:], key=lambda each: (-each[1], each[0]))
    return models.Unigram([*pieces[:num_special], *learned], trained["unk_id"], trained["byte_fallback"])


def _pretrained(config: TransformerConfig) -> SubwordEncoder:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(config.name, use_fast=True, trust_remote_code=False)
        if set(tokenizer("livre")["input_ids"]) <= set(tokenizer.all_special_ids):
            raise ValueError(
                "a tokenizer without a vocabulary"
            )  # what transformers makes of a folder without one
        return SubwordEncoder(tokenizer.backend_tokenizer, tokenizer.pad_token_id, config.max_tokens)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise WeightsError(
            f"no tokenizer for the text encoder {config.name!r}",
            expected="tokenizer.json (or sentencepiece.bpe.model) beside the weights",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix="copy the whole model folder, tokenizer files included, and give its path as model.text.name",
        ) from error


def joined(titles: Iterable[str], descriptions: Iterable[str]) -> list[str]:
    """Title and description as one text, for what looks at a product's words as a whole."""
    return [f"{title} {text}".strip() for title, text in zip(titles, descriptions, strict=True)]
