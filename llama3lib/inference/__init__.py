"""Generating text.

- `sampling_params`, `sampling`, `kv_cache`, `generation`: one text at a time, with streaming
- `fuse`: faster blocks
- `llm_engine`: many texts at once; it goes through `scheduler`, `block_manager`, `model_runner`,
  `paged_attention` and `attend`; `decode_graph` records its steps on a GPU
- `speculative`: a small model guesses ahead
- `eviction`: a cache that gives blocks back while a text is read
"""

from llama3lib.utils.lazy import lazy_names

__all__ = [
    "EvictingCache",
    "KVCache",
    "LLMEngine",
    "RequestOutput",
    "SamplingParams",
    "SpeculativeStats",
    "TokenLogprob",
    "fuse_projections",
    "generate",
    "generate_tokens",
    "sample",
    "sampling_probs",
    "speculative_tokens",
    "unfuse_projections",
]

__getattr__ = lazy_names(
    __name__,
    {
        "eviction": ("EvictingCache",),
        "fuse": ("fuse_projections", "unfuse_projections"),
        "generation": ("generate", "generate_tokens"),
        "kv_cache": ("KVCache",),
        "llm_engine": ("LLMEngine", "RequestOutput"),
        "sampling": ("TokenLogprob", "sample", "sampling_probs"),
        "sampling_params": ("SamplingParams",),
        "speculative": ("SpeculativeStats", "speculative_tokens"),
    },
)
