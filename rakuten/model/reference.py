"""What a model said and saw of products: a window of its traffic, or the held-out products that its bundle remembers.

Shapes: N products, C classes, embeddings of width D.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rakuten.data.labels import Code
from rakuten.data.statistics import InputStatistics
from rakuten.errors import BundleError

REFERENCE: Final = "reference.safetensors"
FORMAT: Final = 1
# Of the photo's file, not of what the model sees: a shop that sends larger photos of the same things has not drifted.
NOT_COMPARED: Final = frozenset({"image_width", "image_height"})
LENGTHS: Final = frozenset({"title_chars", "description_chars", "num_tokens"})
LARGEST: Final = 65_504.0  # of float16
ABSENT: Final = ""  # the category of a product that has none


@dataclass(frozen=True, eq=False)
class Observations:
    """N answers of one model, in columns."""

    ids: NDArray[np.str_]  # (N,) prediction ids; of a reference, the catalogue's indices
    probs: NDArray[np.float32]  # (N, C) calibrated
    numbers: Mapping[str, NDArray[np.float32]]  # (N,) each, NaN where absent
    flags: Mapping[str, NDArray[np.bool_]]  # (N,) each
    categories: Mapping[str, NDArray[np.str_]]  # (N,) each, ABSENT where there is none
    embeddings: Mapping[str, NDArray[np.float16]]  # "text", "image": (N, D), NaN where the tower saw nothing
    labels: NDArray[np.int64]  # (N,) true class as a position among the model's codes, -1 where unknown

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        probs: NDArray[Any],
        statistics: Sequence[InputStatistics],
        embeddings: Mapping[str, NDArray[Any]],
        labels: NDArray[np.int64] | None = None,
    ) -> "Observations":
        """From statistics product by product; a length of 0 counts as absent, since the flags tell of that."""
        columns = {
            f.name: [getattr(each, f.name) for each in statistics]
            for f in fields(InputStatistics)
            if f.name not in NOT_COMPARED
        }
        flags = {name for name in columns if name.startswith("has_") or name == "image_failed"}
        categories = {"language"}
        return cls(
            ids=np.array(list(ids), dtype=np.str_),
            probs=np.asarray(probs, dtype=np.float32),
            numbers={k: _numbers(v, k in LENGTHS) for k, v in columns.items() if k not in flags | categories},
            flags={k: np.array(columns[k], dtype=bool) for k in columns if k in flags},
            categories={
                k: np.array([ABSENT if each is None else each for each in columns[k]], dtype=np.str_)
                for k in columns
                if k in categories
            },
            embeddings={k: np.clip(v, -LARGEST, LARGEST).astype(np.float16) for k, v in embeddings.items()},
            labels=np.full(len(ids), -1, dtype=np.int64) if labels is None else labels,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) positions of the answers among the model's codes."""
        positions: NDArray[np.int64] = self.probs.argmax(axis=1)
        return positions

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(N,) of the answers."""
        largest: NDArray[np.float32] = self.probs.max(axis=1, initial=0)
        return largest

    def take(self, rows: NDArray[Any]) -> "Observations":
        """The products of these row numbers, or where a (N,) mask says so, in that order."""
        return replace(
            self,
            ids=self.ids[rows],
            probs=self.probs[rows],
            numbers={k: v[rows] for k, v in self.numbers.items()},
            flags={k: v[rows] for k, v in self.flags.items()},
            categories={k: v[rows] for k, v in self.categories.items()},
            embeddings={k: v[rows] for k, v in self.embeddings.items()},
            labels=self.labels[rows],
        )

    @classmethod
    def together(cls, parts: Sequence["Observations"]) -> "Observations":
        """Several windows of the same model as one."""
        assert parts

        def joined(name: str) -> dict[str, NDArray[Any]]:
            return {
                key: np.concatenate([getattr(p, name)[key] for p in parts]) for key in getattr(parts[0], name)
            }

        return cls(
            ids=np.concatenate([p.ids for p in parts]),
            probs=np.concatenate([p.probs for p in parts]),
            numbers=joined("numbers"),
            flags=joined("flags"),
            categories=joined("categories"),
            embeddings=joined("embeddings"),
            labels=np.concatenate([p.labels for p in parts]),
        )


def _numbers(values: Sequence[float | None], is_length: bool) -> NDArray[np.float32]:
    found = np.array([np.nan if value is None else value for value in values], dtype=np.float32)
    return np.where(found == 0, np.float32(np.nan), found) if is_length else found


@dataclass(frozen=True, eq=False)
class Reference:
    """What an evaluated model said and saw of held-out products whose labels are known: the like that traffic is held
    against. Lies in the bundle as `reference.safetensors`, under its hashes."""

    seen: Observations
    codes: tuple[Code, ...]  # (C,)
    known_words: NDArray[
        np.uint32
    ]  # hashes of the training texts' words, what `oov_share` was told by; may be empty

    def save(self, folder: Path) -> Path:
        """Writes the file; its path."""
        seen = self.seen
        vocabulary = {key: sorted(set(values.tolist())) for key, values in seen.categories.items()}
        tensors: dict[str, NDArray[Any]] = {
            "probs": seen.probs,
            "labels": seen.labels,
            "known_words": self.known_words.view(np.int32),
            **{f"number.{k}": v for k, v in seen.numbers.items()},
            **{f"flag.{k}": v for k, v in seen.flags.items()},
            **{f"embedding.{k}": v for k, v in seen.embeddings.items()},
            **{
                f"category.{k}": np.searchsorted(vocabulary[k], v).astype(np.int32)
                for k, v in seen.categories.items()
            },
        }
        about = {
            "format": FORMAT,
            "codes": list(self.codes),
            "ids": seen.ids.tolist(),
            "vocabulary": vocabulary,
        }
        path = folder / REFERENCE
        save_file(
            {k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, {"rakuten": json.dumps(about)}
        )
        return path

    @classmethod
    def load(cls, folder: Path) -> "Reference":
        """The reference of the bundle at `folder`; whoever loads the bundle has checked its hashes.

        Raises:
            BundleError: none there, torn, or of a format this version cannot read.
        """
        path = folder / REFERENCE
        if not path.is_file():
            raise BundleError(
                f"the bundle at {folder} has no drift reference",
                expected=path,
                fix="train again: a reference is recorded at the end of every training",
            )
        try:
            with safe_open(path, "numpy") as file:
                about = json.loads(file.metadata()["rakuten"])
                if about["format"] != FORMAT:
                    raise BundleError(
                        f"{path} is of another format",
                        expected=FORMAT,
                        got=about["format"],
                        fix="train again, or watch it with the version of rakuten that wrote it",
                    )
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path} is torn", got=str(error), fix="fetch the bundle anew") from error
        return cls._of(about, tensors)

    def words(self) -> frozenset[int]:
        """What `rakuten.data.statistics.input_statistics` takes as `known_words`."""
        return frozenset(self.known_words.tolist())

    @classmethod
    def _of(cls, about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "Reference":
        def columns(kind: str) -> dict[str, NDArray[Any]]:
            prefix = f"{kind}."
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        seen = Observations(
            ids=np.array(about["ids"], dtype=np.str_),
            probs=tensors["probs"],
            numbers=columns("number"),
            flags=columns("flag"),
            categories={
                k: np.array(about["vocabulary"][k], dtype=np.str_)[v] for k, v in columns("category").items()
            },
            embeddings=columns("embedding"),
            labels=tensors["labels"],
        )
        return cls(seen, tuple(about["codes"]), tensors["known_words"].view(np.uint32))
