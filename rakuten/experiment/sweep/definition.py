"""What makes a study one study: what it varies, what it measures, and all that its trials have in common."""

import json
from collections.abc import Mapping
from typing import Any

import xxhash

from rakuten.config import TrainConfig
from rakuten.config.space import Space
from rakuten.config.sweep import SweepConfig
from rakuten.config_io import to_flat_dict, to_plain
from rakuten.errors import RakutenError
from rakuten.experiment.runs import PASSIVE

# Where files lie and how fast they are read may differ from machine to machine.
_LOCAL = (
    "data.root",
    "data.interim_dir",
    "data.processed_dir",
    "data.cache_dir",
    "data.prepare",
    "trainer.num_workers",
    "trainer.threads",
)


def define(settings: SweepConfig, space: Space, base: TrainConfig, fingerprint: str) -> dict[str, Any]:
    """Equal for command lines whose trials may stand in one study; `base` is the config of any of them.

    `fingerprint` is that of the catalogue's products, texts, labels, photos and sides.
    """
    swept = tuple(param.name.replace("/", ".") for param in space)

    def is_common(key: str) -> bool:
        parts = key.split(".")
        return (
            parts[0] not in PASSIVE
            and key not in _LOCAL
            and not any(key == name or key.startswith(f"{name}.") for name in swept)
        )

    return {
        "space": {param.name: param.text for param in space},
        "objective": dict(zip(settings.objective, settings.direction, strict=True)),
        "settings": {key: value for key, value in to_flat_dict(base).items() if is_common(key)},
        "catalogue": fingerprint,
    }


def study_name(sweep: str, catalogue: str, definition: Mapping[str, Any], settings: SweepConfig) -> str:
    """The same for the same command line: repeating it goes on with its study."""
    how = [to_plain(settings.sampler), to_plain(settings.pruner), settings.warm_start]
    key = xxhash.xxh3_64_hexdigest(json.dumps([definition, how], sort_keys=True).encode())
    return f"{sweep}-{catalogue}-{key[:6]}"


def refuse_another(name: str, stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Trials that vary or measure other things do not belong into one study.

    Raises:
        RakutenError: showing what differs.
    """
    differences = []
    for part in now:
        before, after = stored.get(part), now[part]
        if not isinstance(after, dict) or not isinstance(before, dict):
            before, after = {part: before}, {part: after}
        for key in dict.fromkeys([*before, *after]):
            if before.get(key) != after.get(key):
                differences.append(f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}")
    if differences:
        raise RakutenError(
            f"the study {name!r} was made with another search space, objective or setting",
            expected="stored -> now, all equal",
            got="\n    " + "\n    ".join(differences),
            fix="study_name=ANOTHER for a new study, or say what the stored one says",
        )
