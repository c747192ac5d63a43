"""From a model to a folder that others can read: Hugging Face's layout or Meta's."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from llama3lib.checkpoint import hf, meta
from llama3lib.checkpoint.sources import CHECKSUMS, INDEX
from llama3lib.model import ModelArgs, Transformer
from llama3lib.quant.quantize import scheme_of
from llama3lib.quant.stored import StoredLinear
from llama3lib.tokenizer import Tokenizer
from llama3lib.tokenizer.hf_json import to_hf_json
from llama3lib.utils.files import atomic_folder, sha256_file
from llama3lib.utils.require import at_least, require


def save_hf(
    model: Transformer,
    path: str | os.PathLike,
    *,
    tokenizer: Tokenizer | None = None,
    max_shard_bytes: int = 5_000_000_000,
    overwrite: bool = False,
) -> None:
    """Write a folder that transformers, vLLM and `load_model` read.

    Weights keep their dtype; a tied output matrix is stored once. A model that `quantize_model`
    has made keeps its few bits, in a layout that `load_model` alone reads (docs/serving.md).
    With a tokenizer, both `tokenizer.json` and (for Llama 3's layout) `tokenizer.model` are
    written. SHA-256 sums of all files go into `checksums.json`. The folder appears whole or not
    at all.
    Raises ValueError if the folder is not empty (unless `overwrite`), or max_shard_bytes < 1.
    """
    at_least("max_shard_bytes", max_shard_bytes, 1)
    _check_model(model)
    scheme = scheme_of(model)
    with atomic_folder(path, overwrite=overwrite) as folder:
        weights = dict(_tensors(model))
        shards = list(_plan_shards(weights, max_shard_bytes))
        names = ["model.safetensors"]
        if len(shards) > 1:
            total = len(shards)
            names = [f"model-{i:05d}-of-{total:05d}.safetensors" for i in range(1, total + 1)]
        index = {}
        for file, shard in zip(names, shards, strict=True):
            tensors = dict(_hf_tensor(name, weights[name], model.args) for name in shard)
            index |= dict.fromkeys(tensors, file)
            save_file(tensors, folder / file, metadata={"format": "pt"})
        if len(shards) > 1:
            size = sum(t.numel() * t.element_size() for t in weights.values())
            _write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": index})
        ids = {}
        if tokenizer is not None:
            write_tokenizer(tokenizer, folder)
            rules, specials = tokenizer.rules, tokenizer.special_tokens
            bos, eos = (specials.get(rules.names.get(key)) for key in ("bos_token", "eos_token"))
            ids = {"bos_id": bos, "eos_id": eos}
            ends = {"bos_token_id": bos, "eos_token_id": sorted(tokenizer.stop_ids) or None}
            _write_json(folder / "generation_config.json", ends)
        dtype = model.norm.weight.dtype
        config = hf.args_to_config(model.args, dtype, **ids)
        if scheme is not None:
            config["quantization_config"] = hf.quantization_config(scheme)
        _write_json(folder / "config.json", config)
        files = sorted(file for file in folder.iterdir() if file.is_file())
        _write_json(folder / CHECKSUMS, {file.name: sha256_file(file) for file in files})


def save_meta(
    model: Transformer,
    path: str | os.PathLike,
    *,
    tokenizer: Tokenizer | None = None,
    model_parallel: int = 1,
    overwrite: bool = False,
) -> None:
    """Write Meta's layout: `params.json` and one `consolidated.NN.pth` per rank.

    Raises ValueError if the format cannot hold the model, or its tensors cannot be shared out
    among `model_parallel` ranks.
    """
    ok = model_parallel >= 1 and model.args.n_kv_heads % model_parallel == 0
    require(
        ok, "model_parallel", model_parallel, f"a divisor of n_kv_heads={model.args.n_kv_heads}"
    )
    _check_model(model)
    require(scheme_of(model) is None, "model", "quantised", "Meta's layout holds whole weights")
    params = meta.args_to_params(model.args)
    with atomic_folder(path, overwrite=overwrite) as folder:
        weights = {name: p.detach().cpu() for name, p in model.named_parameters()}
        for rank in range(model_parallel):
            part = {n: meta.split(n, t, model_parallel)[rank] for n, t in weights.items()}
            torch.save(part, folder / f"consolidated.{rank:02d}.pth")
        _write_json(folder / "params.json", params)
        if tokenizer is not None:
            tokenizer.save(folder / "tokenizer.model")


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write what `load_tokenizer` and transformers read: `tokenizer.json` and its config.

    And `tokenizer.model` for Llama 3's layout.
    """
    _write_json(folder / "tokenizer.json", to_hf_json(tokenizer))
    rules = tokenizer.rules
    names = {k: name for k, name in rules.names.items() if name in tokenizer.special_tokens}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    config["clean_up_tokenization_spaces"] = False
    templates = dict(rules.chat_templates)
    if templates.keys() == {"default"}:
        text = templates.pop("default")
        (folder / "chat_template.jinja").write_text(text, encoding="utf-8", newline="")
    if templates:
        listed = [{"name": name, "template": text} for name, text in templates.items()]
        config["chat_template"] = listed
    _write_json(folder / "tokenizer_config.json", config)
    if tokenizer.fits_meta_format():
        tokenizer.save(folder / "tokenizer.model")


def _check_model(model: Transformer) -> None:
    if None in (model.tok_embeddings, model.norm, model.output):
        raise ValueError("model is a stage with parts missing: a whole model is needed")
    bad = sorted({str(p.device) for p in model.parameters() if p.device.type == "meta"})
    if bad:
        raise ValueError("model is on the meta device: it has no weights to save")
    with torch.device("meta"):
        wanted = {name.rpartition(".")[0] for name in Transformer(model.args).state_dict()}
    found = {name.rpartition(".")[0] for name, _ in model.named_parameters(remove_duplicate=False)}
    found |= {n for n, part in model.named_modules() if isinstance(part, StoredLinear)}
    if odd := sorted(wanted ^ found):
        raise ValueError(f"model has other parameters than its args say, first {odd[0]}")


def _tensors(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """What is stored, under our names; a tied matrix once."""
    few_bits = {n: part for n, part in model.named_modules() if isinstance(part, StoredLinear)}
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[0] not in few_bits:
            yield name, parameter.detach()
    for path, part in few_bits.items():
        for suffix, tensor in part.stored().items():
            yield f"{path}.{suffix}", tensor


def _plan_shards(weights: Mapping[str, Tensor], limit: int) -> Iterator[list[str]]:
    """Names of the tensors of each shard; a tensor larger than the limit gets its own."""
    shard, size = [], 0
    for name, tensor in weights.items():
        bytes_ = tensor.numel() * tensor.element_size()
        if shard and size + bytes_ > limit:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += bytes_
    yield shard


def _hf_tensor(name: str, tensor: Tensor, args: ModelArgs) -> tuple[str, Tensor]:
    theirs, tensor = hf.to_hf_tensor(name, tensor.cpu(), args)
    return theirs, tensor.contiguous()


def _write_json(path: Path, data: dict) -> None:
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
