"""The Llama 3 architecture: shapes, the model page, positions, masks, and what a model costs."""

from llama3lib.model.args import PRESETS, ModelArgs, RopeScaling, ffn_dim_from_rule, get_preset
from llama3lib.model.attention import DocumentMask, ScaledDotProductAttention
from llama3lib.model.transformer import Attention, FeedForward, Transformer, TransformerBlock

__all__ = [
    "PRESETS",
    "Attention",
    "DocumentMask",
    "FeedForward",
    "ModelArgs",
    "RopeScaling",
    "ScaledDotProductAttention",
    "Transformer",
    "TransformerBlock",
    "ffn_dim_from_rule",
    "get_preset",
]
