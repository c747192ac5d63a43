"""The layers of a model cut into stages (§3.3.2)."""

from collections.abc import Sequence

import torch
from torch import nn

from llama3lib.model import Transformer
from llama3lib.utils.require import require, require_all


def split_layers(n_layers: int, stages: int) -> list[range]:
    """Which layers each stage has.

    All the same number if that divides. Else the first and the last stage have one fewer, if
    *that* divides: the embedding and the output matrix are their share of work and memory. So do
    the 126 layers of the 405B on 16 stages: 7, 8, ..., 8, 7.

    Raises ValueError if neither does.
    """
    fewer = 0 if n_layers % stages == 0 else 1
    each, rest = divmod(n_layers + 2 * fewer, stages)
    fits = rest == 0 and each > fewer
    require_all(
        fits, "layers, or layers + 2, must be a multiple of stages", layers=n_layers, stages=stages
    )
    ends = [min(max(each * i - fewer, 0), n_layers) for i in range(stages + 1)]
    return [range(start, end) for start, end in zip(ends, ends[1:], strict=False)]


def split_pipeline(model: Transformer, pp: int, rank: int, virtual: int = 1) -> list[Transformer]:
    """The `virtual` stages of a rank, which share their weights with the model.

    Stage s of PP·V is on rank s mod PP. Only the first has `tok_embeddings`, only the last `norm`
    and `output`; names of weights stay as they are.

    Raises ValueError for numbers that don't divide, or a tied output matrix.
    """
    tied = model.args.tie_embeddings and pp > 1
    require(not tied, "pp", pp, "1 where tie_embeddings=True: one matrix can't be on two stages")
    layers, stages = split_layers(model.args.n_layers, pp * virtual), pp * virtual
    return [
        make_stage(model, [str(i) for i in layers[s]], is_first=s == 0, is_last=s == stages - 1)
        for s in range(rank, stages, pp)
    ]


def make_stage(
    model: Transformer, layers: Sequence[str], *, is_first: bool, is_last: bool
) -> Transformer:
    """A model with some of another's layers, and of its ends only what belongs there."""
    with torch.device("meta"):  # the frame only: what is in it comes from the model
        stage = Transformer(model.args.replace(n_layers=1))
    stage.args, stage.freqs_cis = model.args, model.freqs_cis
    stage.layers = nn.ModuleDict({name: model.layers[name] for name in layers})
    stage.tok_embeddings = model.tok_embeddings if is_first else None
    stage.norm = model.norm if is_last else None
    stage.output = model.output if is_last else None
    return stage.train(model.training)
