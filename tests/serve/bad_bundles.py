"""Bundles that must not answer, and what the service says of each."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from rakuten.model.bundle_files import INFO, WEIGHTS, read_info, sha256, write_info


def torn(bundle: Path) -> None:
    """As a copy that was cut off."""
    weights = bundle / WEIGHTS
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def tampered(bundle: Path) -> None:
    """One bit of the weights."""
    weights = bundle / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)


def of_another_format(bundle: Path) -> None:
    write_info(bundle, read_info(bundle) | {"format": 99})


def without_info(bundle: Path) -> None:
    (bundle / INFO).unlink()


def edited_by_hand(bundle: Path) -> None:
    info = json.loads((bundle / INFO).read_text())
    info["calibration"]["temperature"] = 0.01
    (bundle / INFO).write_text(json.dumps(info))


class Trap:
    """Whoever unpickles it leaves a trace."""

    def __reduce__(self) -> Any:
        return eval, ("__import__('pathlib').Path('unpickled').touch()",)


def with_a_pickle(bundle: Path) -> None:
    """Its hash is right: whoever can write bundles can write hashes."""
    _replace(bundle, WEIGHTS, pickle.dumps(Trap()))


def with_other_weights(bundle: Path) -> None:
    """Whole, its hashes right, and its answers are not those that it was made with: the canary set says so."""
    weights = load_file(bundle / WEIGHTS)
    [name] = [each for each in weights if each.endswith("bias") and weights[each].shape == (27,)][:1]
    weights[name] = weights[name][::-1].copy() + 3
    save_file(weights, bundle / WEIGHTS)
    _rehash(bundle, WEIGHTS)


def _replace(bundle: Path, name: str, content: bytes) -> None:
    (bundle / name).write_bytes(content)
    _rehash(bundle, name)


def _rehash(bundle: Path, name: str) -> None:
    info = read_info(bundle)
    write_info(bundle, info | {"hashes": info["hashes"] | {name: sha256(bundle / name)}})


# What breaks a bundle -> a part of the line that says so.
BAD: dict[Callable[[Path], None], str] = {
    torn: f"the bundle's {WEIGHTS} is missing, torn or changed",
    tampered: f"the bundle's {WEIGHTS} is missing, torn or changed",
    of_another_format: "is of another format",
    without_info: "no bundle at",
    edited_by_hand: "was changed after it was written",
    with_a_pickle: "does not fit this version of rakuten",
    with_other_weights: "does not answer its canary set",
}


def broken(bundle: Path, target: Path, breaks: Callable[[Path], None]) -> Path:
    shutil.copytree(bundle, target)
    breaks(target)
    return target
