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
TOTAL_405B_SPLIT_16 = Fact(
    410_081_247_232,
    "parameters",
    "from the released code",
    "computed",
    "the 405B stored in 16 parts keeps every key/value head twice: the same model",
)
SPECIAL_TOKENS_COST_8B = Fact(
    2_097_152, "parameters", _SHAPES, "computed", "256 entries, input and output matrix"
)
SIZES_3_2 = ("1B", "3B")
_SHAPES_3_2 = "from the shapes of Llama 3.2 (released code)"
SHAPES_3_2 = Table(
    title="Shapes of Llama 3.2, which is not in the paper",
    section="released code",
    columns=SIZES_3_2,
    rows={
        "layers": (16, 28),
        "model dimension": (2048, 3072),
        "attention heads": (32, 24),
        "head dimension": (64, 128),
        "key/value heads": (8, 8),
        "FFN dimension": (8192, 8192),
    },
    reliability="code",
)
TOTALS_3_2 = Table(
    title="Parameters of Llama 3.2 from the shapes, tied",
    section=_SHAPES_3_2,
    columns=SIZES_3_2,
    rows={
        "embedding": (262_668_288, 394_002_432),
        "attention per layer": (10_485_760, 25_165_824),
        "FFN per layer": (50_331_648, 75_497_472),
        "layer": (60_821_504, 100_669_440),
        "total": (1_235_814_400, 3_212_749_824),
        "FFN share": (0.652, 0.658),
        "attention share": (0.136, 0.219),
    },
    reliability="computed",
)
CARD_TOTALS_3_2 = Table(
    title="Parameters of Llama 3.2 as the model card prints them",
    section="Llama 3.2 model card",
    columns=SIZES_3_2,
    rows={"total": (1_230_000_000, 3_210_000_000), "shared embeddings": (True, True)},
    reliability="card",
)
KV_CACHE = Table(
    title="Keys and values kept for each token, bfloat16",
    section=_SHAPES,
    columns=SIZES,
    rows={
        "bytes per token": (131_072, 327_680, 516_096),
        "GiB at 8,192": (1.0, 2.5, 3.94),
        "GiB at 131,072": (16.0, 40.0, 63.0),
        "GB at 131,072": (17.2, 42.9, 67.6),
        "GiB at 131,072 if each query head had its own": (64, 320, 1008),
        "weights in GB": (16.1, 141.1, 811.7),
    },
    reliability="computed",
)
KV_CACHE_3_2 = Table(
    title="The same for Llama 3.2",
    section=_SHAPES_3_2,
    columns=SIZES_3_2,
    rows={
        "bytes per token": (32_768, 114_688),
        "GiB at 8,192": (0.25, 0.875),
        "GiB at 131,072": (4.0, 14.0),
        "GiB at 131,072 if each query head had its own": (16, 42),
        "weights in GB": (2.47, 6.43),
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
UNCHANGED = Fact(
    ("RMSNorm before each part", "SwiGLU", "RoPE", "no biases"), "", "released code", "code"
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
CHARACTERS_GAINED = Fact(0.243, "of the characters", "from §3.2", "computed", "3.94/3.17 - 1")
CHARACTERS_SEEN = Fact(
    61_000_000_000_000, "characters", "from §1 and §3.2", "computed", "15.6T tokens, about"
)
RANKS = Fact(128_000, "byte-level BPE tokens", "released tokenizer", "code")
SPECIAL_TOKENS = Fact(256, "tokens", "released tokenizer", "code")
DIGITS_PER_GROUP = Fact((1, 3), "digits, least and most", "released tokenizer", "code")
SPECIAL_TOKEN_IDS = Table(
    title="Special tokens with a name; the rest up to 128,255 is reserved",
    section="released tokenizer",
    columns=("id",),
    rows={
        "<|begin_of_text|>": (128_000,),
        "<|end_of_text|>": (128_001,),
        "<|reserved_special_token_0|>": (128_002,),
        "<|reserved_special_token_1|>": (128_003,),
        "<|finetune_right_pad_id|>": (128_004,),
        "<|step_id|>": (128_005,),
        "<|start_header_id|>": (128_006,),
        "<|end_header_id|>": (128_007,),
        "<|eom_id|>": (128_008,),
        "<|eot_id|>": (128_009,),
        "<|python_tag|>": (128_010,),
        "<|image|>": (128_011,),
    },
    reliability="code",
)
STOP_TOKENS = Fact(
    ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"), "", "released tokenizer", "code"
)
ROLES = Fact(
    ("system", "user", "assistant", "ipython"),
    "",
    "released code; the idea in §4.1.1",
    "code",
    "ipython carries what a tool returned; new in Llama 3.1",
)
BUILT_IN_TOOLS = Fact(
    ("brave_search", "wolfram_alpha", "code interpreter"), "", "released code", "code"
)

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
ROPE_KEPT_BELOW = Fact(
    2048, "positions of wavelength", "from the released code", "computed", "8,192/4"
)
ROPE_DIVIDED_ABOVE = Fact(
    8192, "positions of wavelength", "from the released code", "computed", "8,192/1"
)
ROPE_BLENDED = Table(
    title="The six frequencies between the two bounds",
    section="from the released code",
    columns=("wavelength",),
    rows={
        "29": (2402,),
        "30": (2948,),
        "31": (3619,),
        "32": (4443,),
        "33": (5454,),
        "34": (6695,),
    },
    reliability="computed",
    note="head size 128, theta 500,000; wavelengths in positions",
)
ROPE_LONGEST_WAVELENGTH = Table(
    title="Positions in one turn of the slowest pair, head size 128",
    section=_SHAPES,
    columns=("wavelength",),
    rows={"theta 10,000": (54_410,), "theta 500,000": (2_560_000,)},
    reliability="computed",
    note="the second one rounded to three digits",
)
ROPE_FACTOR_3_2 = Fact(
    32, "", "third-party conversion code", "code", "1B and 3B as packaged; the released code has 8"
)
