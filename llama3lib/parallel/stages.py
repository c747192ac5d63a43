"""The layers of a model cut into stages (§3.3.2)."""

from collections.abc import Sequence
from itertools import islice

import torch
from torch import nn

from llama3lib.model import Transformer
from llama3lib.parallel.layout import stage_layers
from llama3lib.utils.require import require


def split_pipeline(model: Transformer, pp: int, rank: int, virtual: int = 1) -> list[Transformer]:
    """The `virtual` stages of a rank, which share their weights with the model.

    Stage s of PP·V is on rank s mod PP. Only the first has `tok_embeddings`, only the last `norm`
    and `output`; names of weights stay as they are.

    Raises ValueError for numbers that don't divide, or a tied output matrix.
    """
    tied = model.args.tie_embeddings and pp > 1
    require(not tied, "pp", pp, "1 where tie_embeddings=True: one matrix can't be on two stages")
    sizes, stages = stage_layers(model.args.n_layers, pp, virtual), range(pp * virtual)
    names = iter(model.layers)
    layers = [list(islice(names, sizes[s % pp][s // pp])) for s in stages]
    return [
        make_stage(model, layers[s], is_first=s == 0, is_last=s == stages[-1])
        for s in stages[rank::pp]
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
