"""Text towers: token ids -> features."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from rakuten.config import NgramConfig, TransformerConfig
from rakuten.model.tower import Tower, TowerOutput


class NgramTower(Tower):
    """An embedding bag over hashed n-grams, each weighted by its idf, the weights of a product of norm one.

    TF-IDF turned into an embedding: with as many dimensions as classes this is a linear classifier on TF-IDF vectors
    (fastText: Joulin et al., 2017). `sequence` is the pooled vector as the only token: n-grams have no order.
    """

    idf: Tensor

    def __init__(self, config: NgramConfig):
        super().__init__()
        self.out_dim = config.embedding_dim
        self.dropout = config.dropout
        self.embedding = nn.Embedding(config.num_buckets, config.embedding_dim, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.norm = nn.LayerNorm(config.embedding_dim)
        self.register_buffer("idf", torch.ones(config.num_buckets))

    def fit_idf(self, document_frequency: Tensor, num_documents: int) -> None:
        """Smoothed idf from the (num_buckets,) count of training products that hold each n-gram."""
        self.idf.copy_(torch.log((1 + num_documents) / (1 + document_frequency.float())) + 1)

    def forward(self, tokens: Tensor, mask: Tensor) -> TowerOutput:
        """`tokens` (T, L) int64, `mask` (T, L) bool."""
        weights = self.idf[tokens] * mask
        if self.training and self.dropout:
            weights = weights * (torch.rand_like(weights) >= self.dropout)
        weights = weights / weights.norm(dim=1, keepdim=True).clamp_min(1e-6)
        pooled = self.norm(
            nn.functional.embedding_bag(
                tokens, self.embedding.weight, per_sample_weights=weights, mode="sum", padding_idx=0
            )
        )
        return TowerOutput(pooled, pooled[:, None], torch.ones_like(pooled[:, :1], dtype=torch.bool))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        return [list(self.embedding.parameters()), list(self.norm.parameters())]


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

    def forward(self, tokens: Tensor, mask: Tensor) -> TowerOutput:
        """`tokens` (T, L) int64, `mask` (T, L) bool."""
        sequence = self.encoder(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        if self.pooling == "cls":
            return TowerOutput(sequence[:, 0], sequence, mask)
        weights = mask[..., None].to(sequence.dtype)
        return TowerOutput((sequence * weights).sum(1) / weights.sum(1).clamp_min(1), sequence, mask)

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
