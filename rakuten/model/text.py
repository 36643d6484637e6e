"""Text towers: token ids -> features."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from rakuten.config import NgramConfig, TransformerConfig
from rakuten.model.tower import Tower, TowerOutput


class NgramTower(Tower):
    """An embedding bag over hashed n-grams weighted by tf-idf, words and characters of norm one each.

    `init_std=0` without `norm` is a linear classifier on TF-IDF (as fastText: Joulin et al., 2017, and as two
    TfidfVectorizers side by side); otherwise n-grams start as random vectors that a fusion can use from the first step.
    `sequence` is the pooled vector as the only token: n-grams have no order.
    """

    idf: Tensor

    def __init__(self, config: NgramConfig):
        super().__init__()
        self.out_dim = config.embedding_dim
        self.dropout = config.dropout
        self.embedding = nn.Embedding(config.num_buckets, config.embedding_dim, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=config.init_std)
        # At the table's own learning rate: without a free bias a linear classifier lost 0.8 points of F1.
        self.bias = nn.Parameter(torch.zeros(config.embedding_dim))
        self.norm = nn.LayerNorm(config.embedding_dim) if config.norm else nn.Identity()
        self.register_buffer("idf", torch.ones(config.num_buckets))

    def fit_idf(self, document_frequency: Tensor, num_documents: int) -> None:
        """Smoothed idf from the (num_buckets,) count of training products that hold each n-gram."""
        self.idf.copy_(torch.log((1 + num_documents) / (1 + document_frequency.float())) + 1)

    def forward(self, tokens: Tensor, weights: Tensor) -> TowerOutput:
        """`tokens` (T, L) int64, `weights` (T, L), 0 where padded."""
        bag = nn.functional.embedding_bag(
            tokens,
            self.embedding.weight,
            per_sample_weights=self.shares(tokens, weights),
            mode="sum",
            padding_idx=0,
        )
        pooled = self.norm(bag + self.bias)
        return TowerOutput(pooled, pooled[:, None], torch.ones_like(pooled[:, :1], dtype=torch.bool))

    def shares(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """(T, L) what each n-gram counts in its text: tf-idf, in training with dropout, each kind of norm one."""
        weights = self.idf[tokens] * weights
        if self.training and self.dropout:
            weights = weights * (torch.rand_like(weights) >= self.dropout)
        # Characters are many and words are few: each kind gets the same say.
        is_char = tokens >= self.embedding.num_embeddings // 2
        norms = [(weights * kind).norm(dim=1, keepdim=True).clamp_min(1e-6) for kind in (~is_char, is_char)]
        return weights / torch.where(is_char, norms[1], norms[0])

    def layer_groups(self) -> list[list[nn.Parameter]]:
        groups: list[list[nn.Parameter]] = [
            [*self.embedding.parameters(), self.bias],
            list(self.norm.parameters()),
        ]
        return [group for group in groups if group]


class TransformerTower(Tower):
    """Any Hugging Face encoder that gives a last hidden state."""

    def __init__(self, encoder: nn.Module, pooling: str):
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.out_dim = int(cast(Any, encoder).config.hidden_size)

    @property
    def hf_config(self) -> dict[str, Any]:
        """The architecture, plain enough for JSON."""
        return cast(dict[str, Any], cast(Any, self.encoder).config.to_dict())

    def forward(self, tokens: Tensor, weights: Tensor) -> TowerOutput:
        """`tokens` (T, L) int64, `weights` (T, L), 0 where padded."""
        mask = weights > 0
        sequence = self.encoder(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        if self.pooling == "cls":
            return TowerOutput(sequence[:, 0], sequence, mask)
        share = mask[..., None].to(sequence.dtype)
        return TowerOutput((sequence * share).sum(1) / share.sum(1).clamp_min(1), sequence, mask)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        layers = next(m for m in self.encoder.modules() if isinstance(m, nn.ModuleList) and len(m) > 0)
        blocks = [list(layer.parameters()) for layer in layers]
        in_blocks = {id(parameter) for block in blocks for parameter in block}
        embeddings = list(cast(Any, self.encoder).get_input_embeddings().parameters())
        rest = [p for p in self.encoder.parameters() if id(p) not in in_blocks]
        first = [p for n, p in self.encoder.named_parameters() if n.startswith("embeddings.")] or embeddings
        in_first = {id(parameter) for parameter in first}
        return [group for group in (first, *blocks, [p for p in rest if id(p) not in in_first]) if group]


def build_text_tower(
    config: NgramConfig | TransformerConfig,
    vocab_size: int,
    pad_id: int,
    *,
    hf_config: dict[str, Any] | None = None,
    load_weights: bool = True,
) -> Tower:
    """The tower of `config`. A bundle gives `hf_config` and `load_weights=False`: its own weights follow."""
    if isinstance(config, NgramConfig):
        return NgramTower(config)
    from rakuten.model.pretrained import hf_encoder, hf_encoder_from_dict

    if hf_config is not None:
        return TransformerTower(hf_encoder_from_dict(hf_config), config.pooling)
    return TransformerTower(hf_encoder(config, vocab_size, pad_id, load_weights), config.pooling)
