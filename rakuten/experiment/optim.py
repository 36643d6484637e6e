"""AdamW over layer groups, warm-up and cosine decay."""

import math

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from rakuten.config import ModelConfig, OptimConfig
from rakuten.model.classifier import ProductClassifier
from rakuten.model.tower import check_layer_groups


def freeze(classifier: ProductClassifier, config: ModelConfig) -> None:
    """Stop the first `freeze` layer groups of each tower from learning."""
    for name, tower in classifier.towers.items():
        tower_config = getattr(config, name)
        for group in tower.layer_groups()[: tower_config.freeze]:
            for parameter in group:
                parameter.requires_grad_(False)


def build_optimizer(
    classifier: ProductClassifier, model: ModelConfig, config: OptimConfig, *, fused: bool
) -> Optimizer:
    """AdamW with each tower's learning rate decaying from its last layer group to its first.

    Biases, norms and other vectors take no weight decay.
    """
    groups = _param_groups(classifier.head_parameters(), config.lr, config.weight_decay, eps=1e-8)
    for name, tower in classifier.towers.items():
        tower_config = getattr(model, name)
        layers = tower.layer_groups()
        check_layer_groups(tower, layers)
        for depth, layer in enumerate(reversed(layers)):
            lr = tower_config.lr * tower_config.layer_decay**depth
            groups += _param_groups(layer, lr, tower_config.weight_decay, tower_config.eps)
    first, second = config.betas
    return AdamW(groups, lr=config.lr, betas=(first, second), fused=fused)


def build_scheduler(optimizer: Optimizer, num_steps: int, warmup: float) -> LambdaLR:
    """Linear warm-up over the share `warmup` of `num_steps`, then cosine decay to zero."""
    num_warmup = max(1, round(warmup * num_steps))

    def factor(step: int) -> float:
        if step < num_warmup:
            return (step + 1) / num_warmup
        done = min(1.0, (step - num_warmup) / max(1, num_steps - num_warmup))
        return 0.5 * (1 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)


def _param_groups(
    parameters: list[nn.Parameter], lr: float, weight_decay: float, eps: float
) -> list[dict[str, object]]:
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    matrices = [parameter for parameter in learning if parameter.ndim > 1]
    vectors = [parameter for parameter in learning if parameter.ndim <= 1]
    groups = ((matrices, weight_decay), (vectors, 0.0))
    return [
        {"params": params, "lr": lr, "weight_decay": decay, "eps": eps} for params, decay in groups if params
    ]
