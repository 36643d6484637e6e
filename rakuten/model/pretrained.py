"""Pretrained weights: from a local folder, the hub's cache or the hub, or a clear error within seconds.

The hub's clients retry a dead network for up to a minute before they say so; what can be known beforehand is asked
beforehand.
"""

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants, get_session, try_to_load_from_cache

from rakuten.config import ModelConfig, TimmConfig, TransformerConfig
from rakuten.errors import WeightsError

if TYPE_CHECKING:  # whether weights are at hand is asked before torch is loaded
    from torch import nn

PROBE_TIMEOUT_S = 3.0
_TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model")


def require_weights(config: ModelConfig) -> None:
    """Check that every pretrained tower's weights are at hand or can be fetched, before any work is done.

    Raises:
        WeightsError: they are not; says how to bring them.
    """
    if isinstance(config.text, TransformerConfig) and config.text.pretrained:
        require_hf_weights(config.text.name)
    if isinstance(config.image, TimmConfig):
        if config.image.checkpoint is not None:
            _require_checkpoint(config.image.checkpoint)
        elif config.image.pretrained:
            require_timm_weights(config.image.name)


def require_hf_weights(name: str) -> None:
    if _looks_local(name):
        _require_folder(Path(name))
    elif not _cached(name, ("model.safetensors", "model.safetensors.index.json")):
        _require_hub(name, "model.text.name")


def require_timm_weights(name: str) -> None:
    """As `require_weights`, for one timm model; asks timm itself only where its hub name does not follow."""
    hub_id = f"timm/{name}" if "." in name else _timm_hub_id(name)
    if not _cached(hub_id, ("model.safetensors",)):
        _require_hub(hub_id, "model.image.checkpoint")


def _timm_hub_id(name: str) -> str:
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise WeightsError(
            f"timm has no pretrained weights for {name!r}",
            fix="model.image.pretrained=false trains from scratch; model.image.checkpoint=FILE.safetensors loads a file",
        )
    return str(config.hf_hub_id)


def hf_encoder(config: TransformerConfig, vocab_size: int, pad_id: int, load_weights: bool) -> "nn.Module":
    """The encoder that `config` names, pretrained or as the architecture it describes."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel, CamembertConfig, CamembertModel

    if not config.pretrained:
        architecture = CamembertConfig(
            vocab_size=vocab_size,
            pad_token_id=pad_id,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=4 * config.hidden_size,
            max_position_embeddings=config.max_tokens + pad_id + 2,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
        )
        return CamembertModel(architecture, add_pooling_layer=False)
    assert load_weights
    try:
        model, report = AutoModel.from_pretrained(
            config.name,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,  # as the file says, a half-precision checkpoint would be trained in halves
            output_loading_info=True,
            **_no_pooler(config.name),
        )
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise WeightsError(
            f"the text encoder {config.name!r} cannot be loaded",
            expected="config.json and *.safetensors of an architecture that transformers knows",
            got=str(error).splitlines()[0],
            fix="a .bin checkpoint is refused since it can run code: convert it to safetensors",
        ) from error
    if report["missing_keys"]:  # transformers would fill them with random numbers and a warning
        raise WeightsError(
            f"the weights of the text encoder {config.name!r} do not fit its config.json",
            got=f"no tensors for {', '.join(sorted(report['missing_keys'])[:4])}",
            fix="model.text.name must hold config.json and *.safetensors of one and the same model",
        )
    _require_positions(model, config)
    encoder: nn.Module = (
        model.train()
    )  # it comes in evaluation mode, and Lightning would leave it there: no dropout
    return encoder


def hf_encoder_from_dict(hf_config: dict[str, Any]) -> "nn.Module":
    """An encoder without weights, from the architecture that a bundle keeps."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(**hf_config)
    model: nn.Module = AutoModel.from_config(  # type: ignore[no-untyped-call]
        config, trust_remote_code=False, **_pooler_argument(config.model_type)
    )
    return model


def _require_positions(model: Any, config: TransformerConfig) -> None:
    """RoBERTa's family counts positions from the padding id + 1 on."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return
    offset = getattr(getattr(model, "embeddings", None), "padding_idx", None)
    longest = positions - (offset + 1 if isinstance(offset, int) else 0)
    if config.max_tokens > longest:
        raise WeightsError(
            f"the text encoder {config.name!r} cannot read {config.max_tokens} tokens",
            expected=f"model.text.max_tokens <= {longest}",
            got=config.max_tokens,
        )


def load_timm_checkpoint(backbone: "nn.Module", path: Path) -> None:
    """Load a .safetensors file into a timm model; classifier weights are left out, anything else must fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _require_checkpoint(path)
    try:
        state = _as_timm_names_it(load_file(path), backbone)
    except SafetensorError as error:
        raise WeightsError(f"{path} is torn or not a safetensors file", got=str(error)) from error
    wanted = backbone.state_dict()
    missing = sorted(set(wanted) - set(state))
    misfits = sorted(key for key in set(wanted) & set(state) if wanted[key].shape != state[key].shape)
    surplus = sorted(key for key in set(state) - set(wanted) if not key.startswith(_classifiers(backbone)))
    found = {"missing": missing, "of another shape": misfits, "not in the model": surplus}
    if any(found.values()):
        raise WeightsError(
            f"{path} does not fit the image model",
            expected=f"{len(wanted)} tensors of the model's names and shapes",
            got="; ".join(f"{what}: {', '.join(keys[:4])}" for what, keys in found.items() if keys),
            fix="model.image.name must name the architecture that the file was saved from",
        )
    backbone.load_state_dict({key: state[key] for key in wanted})


def _as_timm_names_it(state: dict[str, Any], backbone: "nn.Module") -> dict[str, Any]:
    """What timm does to weights from the hub: other people's names, position embeddings of another photo size."""
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return dict(convert(dict(state), backbone))
    except (
        Exception
    ):  # a foreign file trips it somewhere; what is wrong with the file is told by names and shapes
        return state


def _classifiers(backbone: Any) -> tuple[str, ...]:
    """Prefixes of the classifier's tensors; distilled models have two."""
    names = backbone.pretrained_cfg.get("classifier") or ()
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))


def _no_pooler(name: str) -> dict[str, bool]:
    from transformers import AutoConfig

    return _pooler_argument(AutoConfig.from_pretrained(name, trust_remote_code=False).model_type)


def _pooler_argument(model_type: str) -> dict[str, bool]:
    """BERT's family has a pooler after the last layer that this project does not use: it would get no gradient."""
    family = {"bert", "camembert", "roberta", "xlm-roberta", "xlm-roberta-xl", "mpnet"}
    return {"add_pooling_layer": False} if model_type in family else {}


def _looks_local(name: str) -> bool:
    return name.startswith((".", "/", "~")) or Path(name).exists() or name.count("/") > 1


def _require_folder(folder: Path) -> None:
    wanted = [("config.json",), ("*.safetensors",), _TOKENIZERS]
    if not all(any(any(folder.glob(pattern)) for pattern in patterns) for patterns in wanted):
        found = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else "no such folder"
        raise WeightsError(
            f"no text encoder at {folder}",
            expected="a folder with config.json, *.safetensors and a tokenizer",
            got=found,
        )


def _require_checkpoint(path: Path) -> None:
    if path.suffix != ".safetensors" or not path.is_file():
        raise WeightsError(
            "model.image.checkpoint cannot be read",
            expected="an existing .safetensors file (pickled checkpoints can run code and are refused)",
            got=path,
        )


def _cached(hub_id: str, names: tuple[str, ...]) -> bool:
    return any(isinstance(try_to_load_from_cache(hub_id, name), str) for name in names)


def _require_hub(hub_id: str, key: str) -> None:
    offline = constants.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE") == "1"
    problem = "HF_HUB_OFFLINE is set" if offline else _probe(constants.ENDPOINT)
    if problem:
        raise WeightsError(
            f"pretrained weights of {hub_id!r} are not on disk and cannot be fetched",
            got=problem,
            fix=(
                f"on a machine with a network: `hf download {hub_id}`, then copy the folder here and give its path as "
                f"{key}=PATH{'/model.safetensors' if key.endswith('checkpoint') else ''}, or copy the hub's cache and set HF_HOME to it; or train from scratch with "
                f"{key.rsplit('.', 1)[0]}.pretrained=false"
            ),
        )


def _probe(endpoint: str) -> str | None:
    """None if the hub answers at all. In a thread, since looking up a name knows no time limit."""
    answer: list[str | None] = [f"{endpoint} did not answer within {PROBE_TIMEOUT_S:g} s"]

    def ask() -> None:
        try:
            get_session().head(
                endpoint, timeout=PROBE_TIMEOUT_S
            )  # the hub's own client: it knows about proxies
            answer[0] = None
        except Exception as error:  # whatever its HTTP library of the day raises
            answer[0] = f"{endpoint}: {error or type(error).__name__}"

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_TIMEOUT_S)
    return answer[0]
