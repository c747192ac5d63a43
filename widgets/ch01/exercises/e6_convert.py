"""Exercise 01.6: a Llama checkpoint with Hugging Face's names, there and back.

The foreign checkpoint is made here, from a random library model, so that nothing is downloaded.
It is judged by logits, and a wrong one is explained tensor by tensor.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from llama3lib.checkpoint.hf import args_to_config, to_hf_name, to_hf_tensor
from llama3lib.model import ModelArgs, RopeScaling, Transformer
from llama3lib.model.rope import half_to_interleaved, interleaved_to_half
from widgets.core.exercise import Exercise
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "01.6",
    hints=(
        "Three things differ between the files: the names, the order of rows in two matrices, "
        "and what is written down when the output is tied.",
        "Write one table of names and use it in both directions. Permute wq with n_heads and wk "
        "with n_kv_heads, and nothing else. Read every field of the config, RoPE's too.",
        "half_to_interleaved(tensor, heads) takes the file's rows to ours, interleaved_to_half "
        "goes back. If tie_word_embeddings is set, output.weight is the embedding. "
        "config['rope_scaling'] is None or a dict for RopeScaling.",
    ),
)
from_part, to_part = E.part("from_foreign"), E.part("to_foreign")
_KINDS = ("plain", "tied", "scaled")

# what fixes shape and arithmetic; the other fields of a config.json are of no interest here
_FIELDS = set(
    "hidden_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "intermediate_size vocab_size rms_norm_eps rope_theta max_position_embeddings "
    "tie_word_embeddings rope_scaling".split()
)


def foreign_config(args: ModelArgs) -> dict[str, object]:
    """The fields of `config.json` that fix shape and arithmetic."""
    config = args_to_config(args, torch.float32)
    return {field: config[field] for field in config if field in _FIELDS}


def foreign_checkpoint(model: Transformer) -> tuple[dict[str, object], dict[str, Tensor]]:
    """config and tensors as Hugging Face would store this model."""
    args, tensors = model.args, {}
    for ours, tensor in model.state_dict().items():
        if not (ours == "output.weight" and args.tie_embeddings):
            theirs, turned = to_hf_tensor(ours, tensor, args)
            tensors[theirs] = turned.clone()
    return foreign_config(args), tensors


def example_model(kind: str = "plain") -> Transformer:
    """A random model small enough to print: "plain", "tied" or "scaled" (RoPE), seeds fixed."""
    args = ModelArgs(
        dim=32,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        ffn_dim=40,
        vocab_size=50,
        max_seq_len=64,
        norm_eps=1e-3,
        rope_theta=10_000.0,
    )
    if kind == "tied":
        args = args.replace(tie_embeddings=True, n_layers=1)
    if kind == "scaled":
        args = args.replace(rope_scaling=RopeScaling(original_max_seq_len=16), head_dim=16)
    model = Transformer(args)
    draw = torch.Generator().manual_seed(6)
    with torch.no_grad():  # far from the usual start, so that no mistake hides in small numbers
        for parameter in model.parameters():
            spread = 1.0 if parameter.dim() == 1 else 2 * parameter.shape[-1] ** -0.5
            parameter.normal_(0, spread, generator=draw)
    return model.eval()


@from_part.rule
def _reads(convert: Callable) -> None:
    for kind in _KINDS:
        _check_from(convert, example_model(kind), f'example_model("{kind}")')


@to_part.rule
def _writes(convert: Callable) -> None:
    for kind in _KINDS:
        _check_to(convert, example_model(kind), f'example_model("{kind}")')


def _check_from(convert: Callable, model: Transformer, shows: str) -> None:
    config, tensors = foreign_checkpoint(model)
    got = run(convert, Case((dict(config), dict(tensors)), shows), "from_foreign")
    if not isinstance(got, tuple | list) or len(got) != 2 or not isinstance(got[0], ModelArgs):
        raise Mistake("from_foreign: (ModelArgs, dict of tensors) is needed", shows=shows)
    args, state = got
    _check_fields(args, model.args, shows)
    _check_names(state, model, shows)
    mine = Transformer(args)
    mine.load_state_dict(state, strict=True)
    tokens = torch.randint(0, args.vocab_size, (2, 20), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        difference = (mine.eval()(tokens) - model(tokens)).abs().max()
    if not float(difference) < 1e-4:
        name, why = _explain(state, tensors, model)
        raise Mistake(name, shows=f"{shows}: logits differ by {float(difference):.2g}", why=why)


def _check_fields(got: ModelArgs, want: ModelArgs, shows: str) -> None:
    for field in want.__dataclass_fields__:
        if getattr(got, field) != getattr(want, field):
            why = f"ModelArgs came with {field}={getattr(got, field)!r}."
            raise Mistake(f"{field} is not taken from the config", shows=shows, why=why)


def _check_names(state: dict[str, Tensor], model: Transformer, shows: str) -> None:
    want = model.state_dict()
    missing, extra = sorted(set(want) - set(state)), sorted(set(state) - set(want))
    if missing == ["output.weight"] and model.args.tie_embeddings:
        why = "The foreign file has no lm_head when it is tied; ours has the name all the same."
        raise Mistake("the tied output matrix is missing", shows=shows, why=why)
    if missing or extra:
        why = f"Missing: {', '.join(missing[:3]) or '-'}; unknown: {', '.join(extra[:3]) or '-'}."
        raise Mistake("the names do not match", shows=shows, why=why)
    for name, tensor in want.items():
        if state[name].shape != tensor.shape:
            turned = state[name].shape == tensor.T.shape
            what = "a matrix is transposed" if turned else "a matrix has the wrong shape"
            why = f"It came as {list(state[name].shape)}."
            raise Mistake(what, shows=f"{shows}, {name}", why=why)


def _explain(
    state: dict[str, Tensor], tensors: dict[str, Tensor], model: Transformer
) -> tuple[str, str]:
    """Name and help for the first tensor that is not what it should be."""
    want, args = model.state_dict(), model.args
    tensors = {"lm_head.weight": tensors["model.embed_tokens.weight"]} | tensors
    for name, right in want.items():
        if torch.equal(state[name], right):
            continue
        given, part = tensors[to_hf_name(name)], name.split(".")[-2]
        if part in ("wq", "wk"):
            return _explain_rows(state[name], given, args, part)
        if part == "wv" and torch.equal(state[name], half_to_interleaved(given, args.n_kv_heads)):
            return "wv is permuted", "RoPE turns queries and keys only; values keep their order."
        if right.dim() == 2 and torch.equal(state[name], given.T):
            return "a matrix is transposed", f"{name}: both sides store [out, in]."
        for other, tensor in want.items():
            if torch.equal(state[name], tensor):
                return "two tensors are swapped", f"{name} holds what belongs to {other}."
        return "a tensor is wrong", f"{name} is not what the file holds."
    return "the logits differ", "All tensors are right; look at ModelArgs."


def _explain_rows(got: Tensor, given: Tensor, args: ModelArgs, part: str) -> tuple[str, str]:
    heads = args.n_heads if part == "wq" else args.n_kv_heads
    if torch.equal(got, given):
        why = "The file pairs channel i with i + H/2; ours pairs neighbours. See exercise 01.2."
        return f"the rows of {part} are not permuted", why
    if torch.equal(got, interleaved_to_half(given, heads)):
        return f"the rows of {part} are permuted the wrong way", "You need the inverse."
    for wrong in (1, args.n_heads, args.n_kv_heads):
        rows = got.shape[0]
        if wrong == heads or rows % (2 * wrong):
            continue
        if torch.equal(got, half_to_interleaved(given, wrong)):
            return f"the rows of {part} are permuted with the wrong number of heads", (
                f"{part} has {heads} heads, and the permutation works inside each."
            )
    return "a tensor is wrong", f"{part} holds neither the file's rows nor a known order of them."


def _check_to(convert: Callable, model: Transformer, shows: str) -> None:
    config, tensors = foreign_checkpoint(model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    got = run(convert, Case((model.args, state), shows), "to_foreign")
    if not isinstance(got, tuple | list) or len(got) != 2 or not isinstance(got[0], dict):
        raise Mistake("to_foreign: (config, dict of tensors) is needed", shows=shows)
    for field, value in config.items():
        if got[0].get(field) != value:
            why = f"config.json came with {field}={got[0].get(field)!r}."
            raise Mistake(f"to_foreign: {field} is wrong", shows=shows, why=why)
    mine = dict(got[1])
    if model.args.tie_embeddings and "lm_head.weight" in mine:
        mine.pop("lm_head.weight")  # a second copy is allowed, only wasteful
    if set(mine) != set(tensors):
        odd = sorted(set(mine) ^ set(tensors))
        raise Mistake("to_foreign: the names do not match", shows=shows, why=", ".join(odd[:3]))
    for name, tensor in tensors.items():
        if torch.equal(mine[name], tensor):
            continue
        rows = name.split(".")[-2] in ("q_proj", "k_proj")
        what = "the rows are not permuted back" if rows else "a tensor is wrong"
        raise Mistake(f"to_foreign: {what}", shows=f"{shows}, {name}")
