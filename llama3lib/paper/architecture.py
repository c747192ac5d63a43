"""Shapes, sizes, tokenizer and positions (§3.2, Table 3), and what follows from them."""

from llama3lib.paper.facts import Fact, Table

SIZES = ("8B", "70B", "405B")
_TABLE_3, _SHAPES = "§3.2, Table 3", "from the shapes of §3.2, Table 3"

TABLE_3 = Table(
    title="Key hyper-parameters of Llama 3",
    section=_TABLE_3,
    columns=SIZES,
    rows={
        "layers": (32, 80, 126),
        "model dimension": (4096, 8192, 16_384),
        "FFN dimension": (14_336, 28_672, 53_248),
        "attention heads": (32, 64, 128),
        "key/value heads": (8, 8, 8),
        "peak learning rate": (3e-4, 1.5e-4, 8e-5),
        "activation": ("SwiGLU", "SwiGLU", "SwiGLU"),
        "vocabulary": (128_000, 128_000, 128_000),
        "positions": ("RoPE", "RoPE", "RoPE"),
        "RoPE theta": (500_000, 500_000, 500_000),
    },
    note="The vocabulary is printed as 128,000; the released tokenizer has 128,256 entries.",
)
HEAD_DIM = Fact(128, "channels", _SHAPES, "computed", "dimension / heads, the same at all sizes")
QUERIES_PER_KV_HEAD = Table(
    title="Query heads that share one key/value head",
    section=_SHAPES,
    columns=SIZES,
    rows={"queries per KV head": (4, 8, 16)},
    reliability="computed",
)
TOTALS = Table(
    title="Parameters from the shapes, vocabulary 128,256",
    section=_SHAPES,
    columns=SIZES,
    rows={
        "embedding": (525_336_576, 1_050_673_152, 2_101_346_304),
        "attention per layer": (41_943_040, 150_994_944, 570_425_344),
        "FFN per layer": (176_160_768, 704_643_072, 2_617_245_696),
        "layer": (218_112_000, 855_654_400, 3_187_703_808),
        "total": (8_030_261_248, 70_553_706_496, 405_853_388_800),
        "FFN share": (0.702, 0.799, 0.813),
        "attention share": (0.167, 0.171, 0.177),
    },
    reliability="computed",
    note="Input and output matrices are separate at all three sizes (released code).",
)
TOTAL_8B_IF_TIED = Fact(7_504_924_672, "parameters", _SHAPES, "computed")
TOTAL_8B_PRINTED_VOCABULARY = Fact(8_028_164_096, "parameters", _SHAPES, "computed")
TOTALS_3_2 = Table(
    title="Parameters of Llama 3.2, tied",
    section="Llama 3.2 model card",
    columns=("1B", "3B"),
    rows={"total": (1_235_814_400, 3_212_749_824)},
    reliability="card",
    note="The card prints 1.23B and 3.21B and says that embeddings are shared.",
)
KV_CACHE = Table(
    title="Keys and values kept for each token, bfloat16",
    section=_SHAPES,
    columns=SIZES,
    rows={
        "bytes per token": (131_072, 327_680, 516_096),
        "GiB at 8,192": (1.0, 2.5, 3.94),
        "GiB at 131,072": (16.0, 40.0, 63.0),
        "GiB at 131,072 if each query head had its own": (64, 320, 1008),
        "weights in GB": (16.1, 141.1, 811.7),
    },
    reliability="computed",
)
FFN_RULE = Table(
    title="Two thirds of 4·dim, times a multiplier, rounded up",
    section="released code",
    columns=("multiplier", "multiple of", "FFN dimension"),
    rows={
        "8B": (1.3, 1024, 14_336),
        "70B": (1.3, 4096, 28_672),
        "405B": (1.2, 4096, 53_248),
        "3.2 1B": (1.5, 256, 8192),
        "3.2 3B": (1.0, 256, 8192),
    },
    reliability="code",
)
CHANGES_SINCE_LLAMA_2 = Fact(
    (
        "grouped-query attention with 8 key/value heads at every size",
        "a mask that keeps documents of one sequence apart",
        "a vocabulary of 128K tokens",
        "RoPE theta raised to 500,000",
    ),
    "",
    "§3.2",
)
NORM_EPS = Fact(1e-5, "", "released code", "code")
PIPELINE_SLOTS = Fact(
    126, "layers", "§3.3.2", "computed", "16 stages of 8 slots, less one in the first and the last"
)
DOCUMENT_MASK = Fact(
    "little effect in ordinary pre-training, important for very long sequences", "", "§3.2"
)

VOCABULARY = Fact(128_256, "tokens", "released tokenizer", "code", "128,000 and 256 special ones")
VOCABULARY_PRINTED = Fact(128_000, "tokens", _TABLE_3)
FROM_TIKTOKEN = Fact(100_000, "tokens", "§3.2", note="and 28,000 more for other languages")
ADDED_TOKENS = Fact(28_000, "tokens", "§3.2")
CHARACTERS_PER_TOKEN = Fact(3.94, "characters per token", "§3.2", note="on a sample of English")
CHARACTERS_PER_TOKEN_LLAMA_2 = Fact(3.17, "characters per token", "§3.2")
TOKENS_SAVED = Fact(0.195, "of the tokens", "from §3.2", "computed", "1 - 3.17/3.94")

ROPE_THETA = Fact(500_000, "", _TABLE_3)
ROPE_CITED_CONTEXT = Fact(
    32_768, "positions", "§3.2", note="up to which the cited work found this theta good"
)
ROPE_FACTOR = Fact(8, "", "released code", "code", "Llama 3.1; the paper does not describe it")
ROPE_LOW_FREQ_FACTOR = Fact(1, "", "released code", "code")
ROPE_HIGH_FREQ_FACTOR = Fact(4, "", "released code", "code")
ROPE_ORIGINAL_CONTEXT = Fact(8192, "positions", "released code", "code")
ROPE_KEPT_BLENDED_DIVIDED = Fact(
    (29, 6, 29), "frequencies", "from the released code", "computed", "head size 128, theta 500,000"
)
ROPE_FACTOR_3_2 = Fact(
    32, "", "third-party conversion code", "code", "1B and 3B as packaged; the released code has 8"
)
