"""The contract of a tower: what fusions, freezing and learning rates may rely on."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class TowerOutput:
    """`pooled` (N, D); `sequence` (N, L, E) token or patch features; `mask` (N, L) bool, False where padded."""

    pooled: Tensor
    sequence: Tensor
    mask: Tensor


class Tower(nn.Module):
    """Encodes one modality of the products that have it."""

    out_dim: int

    @property
    def sequence_dim(self) -> int:
        """Width of `sequence`: that of `pooled`, but where a head between both changes it."""
        return self.out_dim

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Each parameter exactly once, in groups from the input to the output.

        Freezing and layer-wise learning-rate decay both go by these groups.
        """
        raise NotImplementedError


def check_layer_groups(tower: nn.Module, groups: Sequence[Sequence[nn.Parameter]]) -> None:
    """Our own mistake if a group misses a parameter or names one twice."""
    named = [id(parameter) for group in groups for parameter in group]
    assert len(named) == len(set(named)), "a parameter is in two layer groups"
    assert set(named) == {id(parameter) for parameter in tower.parameters()}, "layer groups miss a parameter"
