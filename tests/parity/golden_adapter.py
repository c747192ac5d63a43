"""Maps the names of an outside judge to ours, so that independent vectors can be compared.

The judge calls these functions; each only changes names and shapes. Functions for parts that do
not exist yet are left out, and the judge reports their checks as skipped.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from llama3lib.checkpoint import load_model
from llama3lib.checkpoint.hf import to_hf_tensor
from llama3lib.data.dedup.minhash import MinHash, estimate_jaccard
from llama3lib.inference import SamplingParams, generate_tokens, sampling_probs
from llama3lib.model import DocumentMask, RopeScaling
from llama3lib.model.rope import rope_frequencies
from llama3lib.posttrain import dpo
from llama3lib.posttrain.reward import pair_loss
from llama3lib.quant import quantize_rows
from llama3lib.tokenizer import ChatFormat, EncodedDialog, Message, Tokenizer, ToolCall
from llama3lib.train import lr_at

__all__ = ["lr_at"]


def rope_inv_freq(head_dim: int, theta: float, scaling: dict | None) -> Tensor:
    if scaling is None:
        return rope_frequencies(head_dim, theta)
    return rope_frequencies(
        head_dim,
        theta,
        RopeScaling(
            factor=scaling["factor"],
            low_freq_factor=scaling["low_freq_factor"],
            high_freq_factor=scaling["high_freq_factor"],
            original_max_seq_len=scaling["original_max_position_embeddings"],
        ),
    )


@torch.no_grad()
def logits(model_dir: str, input_ids: Tensor, dtype: str = "float32") -> Tensor:
    return load_model(model_dir, dtype=getattr(torch, dtype))(input_ids)


def greedy(model_dir: str, prompt_ids: list[int], n: int) -> list[int]:
    model = load_model(model_dir, dtype=torch.float32)
    params = SamplingParams(temperature=0.0, max_tokens=n, ignore_eos=True)
    return list(generate_tokens(model, prompt_ids, params))


@torch.no_grad()
def packed_logits(model_dir: str, input_ids: Tensor, doc_ids: Tensor) -> Tensor:
    mask = DocumentMask(doc_ids[None])
    model = load_model(model_dir, dtype=torch.float32)
    return model(input_ids[None], mask.positions(), mask)[0]


def loss_and_grads(model_dir: str, input_ids: Tensor, labels: Tensor):
    model = load_model(model_dir, dtype=torch.float64)
    scores = model(input_ids)[:, :-1]
    loss = F.cross_entropy(scores.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    loss.backward()
    # a gradient has its weight's layout, so it is renamed and reordered like a weight
    grads = dict(
        to_hf_tensor(name, weight.grad, model.args) for name, weight in model.named_parameters()
    )
    return float(loss.detach()), grads


def encode(text: str, bos: bool = False, eos: bool = False, allow_special: bool = False):
    return Tokenizer.llama3().encode(text, bos=bos, eos=eos, allow_special=allow_special)


def encode_small(model_file: str, text: str) -> list[int]:
    return Tokenizer.from_file(Path(model_file)).encode(text)


def chat(messages: list[dict], tool_format: str = "json") -> list[int]:
    dialog = [
        Message(
            role=message["role"],
            content=message["content"],
            context=message.get("context"),
            stop_reason=message.get("stop_reason"),
            tool_calls=tuple(
                ToolCall(name=call["tool_name"], arguments=call["arguments"])
                for call in message.get("tool_calls", ())
            ),
        )
        for message in messages
    ]
    chat_format = ChatFormat(Tokenizer.llama3())
    return chat_format.encode_dialog(
        dialog, add_generation_prompt=True, tool_format=tool_format
    ).ids


def jaccard_estimate(text_a: str, text_b: str, num_perm: int) -> float:
    """Estimated similarity of the word 5-gram sets of two texts."""
    minhash = MinHash(num_perm)
    return estimate_jaccard(minhash.signature(text_a), minhash.signature(text_b))


def top_p_probs(logits: Tensor, temperature: float, p: float) -> Tensor:
    return sampling_probs(logits, SamplingParams(temperature=temperature, top_p=p))


def fp8_rows(x: Tensor, upper_bound: float | None = None) -> tuple[Tensor, Tensor]:
    return quantize_rows(x, upper_bound)


def rm_loss(chosen: Tensor, rejected: Tensor, margin: Tensor | None = None) -> float:
    return float(pair_loss(chosen, rejected, margin))


def dpo_loss(
    pol_chosen: Tensor,
    pol_rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
) -> float:
    logps = pol_chosen, pol_rejected, ref_chosen, ref_rejected
    return float(dpo.dpo_loss(*logps, beta=beta, label_smoothing=label_smoothing).loss)


def pair_logps(
    model_dir: str, pairs: list[dict], output_scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    batch = _pair_batch(pairs)
    logps = dpo.sequence_logps(_token_logps(model_dir, batch, output_scale), batch)
    return logps[: len(pairs)], logps[len(pairs) :]


def llama3_dpo_loss(
    model_dir: str, pairs: list[dict], ref_output_scale: float, beta: float, nll: float
) -> float:
    batch = _pair_batch(pairs)
    reference = dpo.sequence_logps(_token_logps(model_dir, batch, ref_output_scale), batch)
    policy = _token_logps(model_dir, batch)
    return float(dpo.llama3_dpo_loss(policy, reference, batch, beta=beta, nll_weight=nll).loss)


def _pair_batch(pairs: list[dict]) -> dpo.PairRows:
    def encoded(pair: dict, answer: str) -> EncodedDialog:
        mask = [False] * len(pair["prompt"]) + [True] * len(pair[answer])
        return EncodedDialog(pair["prompt"] + pair[answer], mask)

    made = [(encoded(pair, "chosen"), encoded(pair, "rejected")) for pair in pairs]
    return dpo.collate_pairs(made, pad_id=0)


@torch.no_grad()
def _token_logps(model_dir: str, batch: dpo.PairRows, output_scale: float = 1.0) -> Tensor:
    model = load_model(model_dir, dtype=torch.float64)
    return dpo.token_logps(model(batch.rows.ids) * output_scale, batch.rows.targets)
