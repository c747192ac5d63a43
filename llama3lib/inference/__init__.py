"""Generating text: sampling, a cache of keys and values, streaming, and faster blocks."""

from llama3lib.inference.fuse import fuse_projections, unfuse_projections
from llama3lib.inference.generate import generate, generate_tokens
from llama3lib.inference.kv_cache import KVCache
from llama3lib.inference.sampling import SamplingParams, sample, sampling_probs

__all__ = [
    "KVCache",
    "SamplingParams",
    "fuse_projections",
    "generate",
    "generate_tokens",
    "sample",
    "sampling_probs",
    "unfuse_projections",
]
