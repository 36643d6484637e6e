"""Random changes of training photos, on whole batches, where the pixels are."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from rakuten.config import AugmentConfig

WHITE = 255.0


def augment(pixels: Tensor, config: AugmentConfig) -> Tensor:
    """`pixels` (M, 3, S, S) uint8 -> float32 of the same shape and range, each photo changed in its own way."""
    images = pixels.float()
    if len(images) == 0 or not any((config.flip, config.shift, config.scale, config.color, config.erase)):
        return images
    images = _move(images, config)
    if config.color:
        images = _recolor(images, config.color)
    if config.erase:
        images = _erase(images, config.erase)
    return images


def _uniform(num: int, like: Tensor, low: float, high: float) -> Tensor:
    return torch.empty(num, device=like.device).uniform_(low, high)


def _move(images: Tensor, config: AugmentConfig) -> Tensor:
    """Flip, shift and scale in one resampling; what comes in from outside is white, like the catalogue's borders."""
    num = len(images)
    theta = torch.zeros(num, 2, 3, device=images.device)
    scale = 1 + _uniform(num, images, -config.scale, config.scale)
    mirror = torch.where(_uniform(num, images, 0, 1) < config.flip, -1.0, 1.0)
    theta[:, 0, 0], theta[:, 1, 1] = scale * mirror, scale
    theta[:, :, 2] = 2 * _uniform(2 * num, images, -config.shift, config.shift).view(num, 2)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images - WHITE, grid, align_corners=False) + WHITE


def _recolor(images: Tensor, largest: float) -> Tensor:
    brightness, contrast, saturation = (
        1 + _uniform(len(images), images, -largest, largest).view(-1, 1, 1, 1) for _ in range(3)
    )
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * saturation
    mean = gray.mean((2, 3), keepdim=True)
    return ((mean + (images - mean) * contrast) * brightness).clamp(0, WHITE)


def _erase(images: Tensor, share: float) -> Tensor:
    """Random erasing (Zhong et al., 2020): a rectangle of a tenth to a third of each side turns gray."""
    num, side = len(images), images.shape[-1]
    ruler = torch.arange(side, device=images.device)
    inside = torch.ones(num, side, side, dtype=torch.bool, device=images.device)
    for axis in (1, 2):
        length = _uniform(num, images, 0.1, 0.33) * side
        start = _uniform(num, images, 0, 1) * (side - length)
        covered = (ruler >= start[:, None]) & (ruler < (start + length)[:, None])
        inside &= covered.unsqueeze(3 - axis)
    inside &= (_uniform(num, images, 0, 1) < share).view(-1, 1, 1)
    return images.masked_fill(inside[:, None], WHITE / 2)
