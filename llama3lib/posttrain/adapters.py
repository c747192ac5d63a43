"""Adapters in a folder of their own, as PEFT reads and writes them."""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from llama3lib.checkpoint import hf
from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.model import Transformer
from llama3lib.posttrain.lora import LoraLinear, add_lora, lora_places
from llama3lib.utils.files import atomic_folder
from llama3lib.utils.require import require

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_THEIRS = {
    **{"wq": "q_proj", "wk": "k_proj", "wv": "v_proj", "wo": "o_proj"},
    **{"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"},
}
# what PEFT can do beside plain LoRA; each would give other numbers
_MUST_BE_OFF = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save")


def save_adapter(
    model: Transformer, folder: str | Path, *, base: str = "", overwrite: bool = False
) -> None:
    """Write the adapters of a model, whole or not at all; `PeftModel.from_pretrained` opens it.

    base: name or path of the model they belong to, for others to find.
    Raises ValueError if there are none, or the folder is there and not empty.
    """
    found = [(path, adapted) for path, _, _, adapted in lora_places(model)]
    require(found, "model", "without adapters", "one with LoRA")
    first, tensors = found[0][1], {}
    for path, adapted in found:
        tensors |= dict(zip(_keys(path), _turned(path, adapted, model), strict=True))
    rank = len(first.lora_a)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": first.scale * rank,
        "lora_dropout": 0.0,
        "r": rank,
        "target_modules": sorted({_THEIRS[path.rpartition(".")[2]] for path, _ in found}),
    }
    with atomic_folder(Path(folder), overwrite=overwrite) as made:
        save_file(tensors, made / WEIGHTS, {"format": "pt"})
        text = json.dumps(config, indent=2) + "\n"
        (made / CONFIG).write_text(text, encoding="utf-8", newline="\n")


def load_adapter(model: Transformer, folder: str | Path) -> Transformer:
    """Put the adapters of a folder beside the matrices of a model, in place.

    Raises CheckpointError naming what is missing, damaged, of another shape, or of another kind
    than plain LoRA.
    """
    path = Path(folder)
    config = _read_config(path / CONFIG)
    try:
        stored = load_file(path / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path / WEIGHTS} cannot be read: {error}") from None
    ours = {theirs: own for own, theirs in _THEIRS.items()}
    try:
        targets = [ours[name] for name in config["target_modules"]]
        add_lora(model, config["r"], config["lora_alpha"], targets)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / CONFIG}: {type(error).__name__}: {error}") from None
    args = model.args
    for name, _, _, adapted in lora_places(model):
        key_a, key_b = _keys(name)
        for key, parameter in ((key_a, adapted.lora_a), (key_b, adapted.lora_b)):
            tensor = stored.pop(key, None)
            found = None if tensor is None else tuple(tensor.shape)
            if found != tuple(parameter.shape):
                told = f"has shape {found}, {tuple(parameter.shape)} is expected"
                raise CheckpointError(f"{path / WEIGHTS}: {key} {told}")
            if key == key_b:
                tensor = hf.from_hf_tensor(f"{name}.weight", tensor, args)
            parameter.data.copy_(tensor)
    if stored:
        raise CheckpointError(f"{path / WEIGHTS}: {min(stored)} is not expected")
    return model


def _keys(path: str) -> tuple[str, str]:
    """PEFT's names of the two matrices of an adapter."""
    theirs = _PREFIX + hf.to_hf_name(f"{path}.weight").removesuffix(".weight")
    return f"{theirs}.lora_A.weight", f"{theirs}.lora_B.weight"


def _turned(path: str, adapted: LoraLinear, model: Transformer) -> tuple[Tensor, Tensor]:
    """Both matrices; the rows of queries and keys in Hugging Face's order."""
    _, b = hf.to_hf_tensor(f"{path}.weight", adapted.lora_b.detach(), model.args)
    return adapted.lora_a.detach().cpu().contiguous(), b.cpu().contiguous()


def _read_config(file: Path) -> dict:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise CheckpointError(f"{file} is no LoRA of PEFT")
    wrong = [name for name in _MUST_BE_OFF if config.get(name)]
    wrong += [] if config.get("bias", "none") == "none" else ["bias"]
    targets = config.get("target_modules")
    if wrong or not isinstance(targets, list) or set(targets) - set(_THEIRS.values()):
        told = wrong[0] if wrong else f"target_modules={targets!r}"
        raise CheckpointError(f"{file}: {told} is not supported, plain LoRA on matrices is")
    return config
