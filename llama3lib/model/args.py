"""The shape of a model: one frozen dataclass, checked when it is made, and the published sizes.

Sizes of the Llama 3 models come from Table 3 of the paper (§3.2); the feed-forward rule, the
released RoPE scaling of Llama 3.1 and the sizes of Llama 3.2 come from the released code and
model cards, not from the paper.
"""

import dataclasses
from dataclasses import dataclass

from llama3lib.utils.require import at_least, is_whole, positive, require


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How Llama 3.1 stretches RoPE from 8K to 128K positions (released code; not in the paper).

    Pairs that turn often inside the original context keep their frequency, pairs that hardly
    turn have it divided by `factor`, and those between are blended. See `rope_frequencies`.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_seq_len: int = 8192

    def __post_init__(self) -> None:
        for field in ("factor", "low_freq_factor", "high_freq_factor"):
            positive(field, getattr(self, field))
        at_least("factor", self.factor, 1)
        require(
            self.high_freq_factor > self.low_freq_factor,
            "high_freq_factor",
            self.high_freq_factor,
            f"above low_freq_factor={self.low_freq_factor}",
        )
        length = self.original_max_seq_len
        require(is_whole(length), "original_max_seq_len", length, "a whole number above 0")


@dataclass(frozen=True, kw_only=True)
class ModelArgs:
    """Everything that fixes the shape and the arithmetic of a `Transformer`.

    Raises ValueError naming the field, its value and what is allowed.
    """

    dim: int
    """D: width of the residual stream."""
    n_layers: int
    """L: number of Transformer blocks."""
    n_heads: int
    """N: query heads."""
    n_kv_heads: int
    """K: key/value heads; each serves n_heads / n_kv_heads query heads."""
    ffn_dim: int
    """F: width inside the feed-forward layer."""
    vocab_size: int
    """V: rows of the embedding, special tokens included."""
    head_dim: int | None = None
    """H: size of one head; dim / n_heads if left out. RoPE turns pairs, so it must be even."""
    norm_eps: float = 1e-5
    rope_theta: float = 500_000.0
    rope_scaling: RopeScaling | None = None
    max_seq_len: int = 8192
    """Rows of the position table; a position past it is refused."""
    tie_embeddings: bool = False
    """True: the output matrix is the embedding matrix (Llama 3.2 1B and 3B only)."""

    def __post_init__(self) -> None:
        sizes = ("dim", "n_layers", "n_heads", "n_kv_heads", "ffn_dim", "vocab_size", "max_seq_len")
        for field in sizes:
            value = getattr(self, field)
            require(is_whole(value), field, value, "a whole number above 0")
        if self.head_dim is None:
            require(self.dim % self.n_heads == 0, "dim", self.dim, f"a multiple of {self.n_heads}")
            object.__setattr__(self, "head_dim", self.dim // self.n_heads)
        even = is_whole(self.head_dim) and self.head_dim % 2 == 0
        require(even, "head_dim", self.head_dim, "an even whole number above 0")
        require(
            self.n_heads % self.n_kv_heads == 0,
            "n_kv_heads",
            self.n_kv_heads,
            f"a divisor of n_heads={self.n_heads}",
        )
        for field in ("norm_eps", "rope_theta"):
            positive(field, getattr(self, field))
        scaling = self.rope_scaling
        require(
            scaling is None or isinstance(scaling, RopeScaling),
            "rope_scaling",
            scaling,
            "None or a RopeScaling",
        )
        require(
            isinstance(self.tie_embeddings, bool), "tie_embeddings", self.tie_embeddings, "bool"
        )

    @property
    def queries_per_kv_head(self) -> int:
        """How many query heads share one key/value head: 4, 8, 16 for 8B, 70B, 405B."""
        return self.n_heads // self.n_kv_heads

    def replace(self, **changes: object) -> "ModelArgs":
        """A copy with some fields changed, checked again. head_dim stays unless it is given."""
        return dataclasses.replace(self, **changes)


def ffn_dim_from_rule(dim: int, multiplier: float, multiple_of: int) -> int:
    """The released code's rule: two thirds of 4·dim, times a multiplier, rounded up.

    >>> ffn_dim_from_rule(4096, 1.3, 1024)
    14336
    """
    require(is_whole(dim), "dim", dim, "a whole number above 0")
    positive("multiplier", multiplier)
    require(is_whole(multiple_of), "multiple_of", multiple_of, "a whole number above 0")
    # both cuts to whole numbers are the released code's; another order gives other widths
    hidden = int(multiplier * int(2 * (4 * dim) / 3))
    return multiple_of * -(-hidden // multiple_of)


_VOCAB = 128_256  # 128,000 byte-level merges and bytes, and 256 special tokens
_SIZES = {
    "8b": dict(dim=4096, n_layers=32, n_heads=32, n_kv_heads=8, ffn_dim=14_336),
    "70b": dict(dim=8192, n_layers=80, n_heads=64, n_kv_heads=8, ffn_dim=28_672),
    "405b": dict(dim=16_384, n_layers=126, n_heads=128, n_kv_heads=8, ffn_dim=53_248),
}
_SMALL = {
    "1b": dict(dim=2048, n_layers=16, n_heads=32, n_kv_heads=8, ffn_dim=8192),
    "3b": dict(dim=3072, n_layers=28, n_heads=24, n_kv_heads=8, ffn_dim=8192),
}
_LONG = dict(vocab_size=_VOCAB, max_seq_len=131_072)

PRESETS: dict[str, ModelArgs] = {
    "llama3-8b": ModelArgs(**_SIZES["8b"], vocab_size=_VOCAB),
    "llama3-70b": ModelArgs(**_SIZES["70b"], vocab_size=_VOCAB),
    **{
        f"llama3.1-{size}": ModelArgs(**shape, **_LONG, rope_scaling=RopeScaling())
        for size, shape in _SIZES.items()
    },
    **{
        f"llama3.2-{size}": ModelArgs(
            **shape, **_LONG, rope_scaling=RopeScaling(factor=32.0), tie_embeddings=True
        )
        for size, shape in _SMALL.items()
    },
    "tiny": ModelArgs(
        dim=64, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=192, vocab_size=512, max_seq_len=512
    ),
    "small": ModelArgs(
        dim=128, n_layers=4, n_heads=8, n_kv_heads=2, ffn_dim=384, vocab_size=768, max_seq_len=1024
    ),
    "110m": ModelArgs(
        dim=768,
        n_layers=12,
        n_heads=12,
        n_kv_heads=4,
        ffn_dim=2304,
        vocab_size=32_000,
        max_seq_len=2048,
        tie_embeddings=True,
    ),
}
"""Published sizes and our own tiny ones. 3 = April 2024, 3.1 = July 2024, 3.2 = September 2024."""

_ALIASES = {"8b": "llama3.1-8b", "70b": "llama3.1-70b", "405b": "llama3.1-405b"} | {
    size: f"llama3.2-{size}" for size in _SMALL
}


def get_preset(name: str) -> ModelArgs:
    """The preset of that name, in any case; "8B", "70B", "405B" are Llama 3.1, "1B", "3B" 3.2.

    Raises ValueError listing the names that exist.
    """
    key = name.lower().replace("_", "-")
    key = _ALIASES.get(key, key)
    if key not in PRESETS:
        known = ", ".join([*(alias.upper() for alias in _ALIASES), *PRESETS])
        raise ValueError(f"preset={name!r} is not known: use one of {known}")
    return PRESETS[key]
