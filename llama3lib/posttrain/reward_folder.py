"""A reward model as a folder: transformers opens it as `LlamaForSequenceClassification`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from llama3lib.checkpoint import hf
from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.checkpoint.save import write_tokenizer
from llama3lib.model import Transformer
from llama3lib.posttrain.reward import make_reward_model
from llama3lib.tokenizer import Tokenizer
from llama3lib.utils.files import atomic_folder
from llama3lib.utils.require import require

KIND, _WEIGHTS, _HEAD = "LlamaForSequenceClassification", "model.safetensors", "score.weight"


def save_reward_model(
    model: Transformer,
    folder: str | Path,
    tokenizer: Tokenizer | None = None,
    notes: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write the folder, whole or not at all; `notes` become its `provenance.json`.

    Raises ValueError for a model without a head of one number, or a folder that is not empty.
    """
    head = model.output is not None and model.output.weight.shape[0] == 1
    require(head, "model", "without a head of one number", "one of `make_reward_model`")
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    tensors = {_HEAD: weights.pop("output.weight")}
    tensors |= dict(hf.to_hf_tensor(name, weight, model.args) for name, weight in weights.items())
    config = hf.args_to_config(model.args, model.norm.weight.dtype)
    config |= {"architectures": [KIND], "id2label": {"0": "reward"}, "label2id": {"reward": 0}}
    with atomic_folder(folder, overwrite=overwrite) as made:
        stored = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        save_file(stored, made / _WEIGHTS, {"format": "pt"})
        if tokenizer is not None:
            write_tokenizer(tokenizer, made)
            names = tokenizer.rules.names
            ids = [tokenizer.special_tokens.get(names.get(k)) for k in ("bos_token", "eos_token")]
            # the row's last token is found by what fills it up behind
            config |= {"bos_token_id": ids[0], "eos_token_id": ids[1], "pad_token_id": ids[1]}
        _write(made / "config.json", config)
        _write(made / "provenance.json", dict(notes or {}))


def load_reward_model(folder: str | Path) -> Transformer:
    """The model in a folder, in evaluation mode.

    Raises CheckpointError naming what is missing, damaged, or no reward model.
    """
    path = Path(folder)
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        stored = load_file(path / _WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(config, dict) or config.get("architectures") != [KIND]:
        raise CheckpointError(f"{path} is no reward model: its architecture is not {KIND}")
    args = hf.config_to_args(config | {"architectures": None}, str(path / "config.json"))
    with torch.device("meta"):
        model = make_reward_model(Transformer(args))
    dtypes = {tensor.dtype for tensor in stored.values()}
    model.to(dtypes.pop() if len(dtypes) == 1 else torch.float32).to_empty(device="cpu")
    for name, parameter in model.named_parameters():
        theirs = _HEAD if name == "output.weight" else hf.to_hf_name(name)
        tensor = stored.pop(theirs, None)
        found = None if tensor is None else tuple(tensor.shape)
        if found != tuple(parameter.shape):
            told = f"{theirs} has shape {found}, {tuple(parameter.shape)} is expected"
            raise CheckpointError(f"{path / _WEIGHTS}: {told}")
        with torch.no_grad():
            parameter.copy_(
                tensor if name == "output.weight" else hf.from_hf_tensor(name, tensor, model.args)
            )
    if stored:
        raise CheckpointError(f"{path / _WEIGHTS}: {min(stored)} is not expected")
    return model.eval()


def _write(file: Path, data: Mapping[str, Any]) -> None:
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    file.write_text(text, encoding="utf-8", newline="\n")
