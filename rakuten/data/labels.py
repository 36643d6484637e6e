"""The type of category codes, names and columns. Their values live in conf/data/*.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

Code = int | str


@dataclass(frozen=True)
class LabelSet:
    """The categories of a catalogue, in the order of the model's logits.

    Class index i (a logit's position) stands for `codes[i]`, shown to people as `names[i]`.
    """

    codes: tuple[Code, ...]
    names: tuple[str, ...]

    @classmethod
    def from_mapping(cls, codes: Mapping[Code, str]) -> "LabelSet":
        return cls(tuple(codes), tuple(codes.values()))

    def __len__(self) -> int:
        return len(self.codes)

    def parse(self, text: str) -> int | None:
        """Class index of a code as written in a file, None where the code is unknown."""
        return self._index_of.get(text.strip())

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {str(code): index for index, code in enumerate(self.codes)}
