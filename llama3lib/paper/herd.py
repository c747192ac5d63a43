"""The herd itself: which models, how large, how long trained (§1, Table 1)."""

from llama3lib.paper.facts import Fact, Table

MODELS = Table(
    title="The Llama 3 herd of models",
    section="§1, Table 1",
    columns=("released", "fine-tuned", "multilingual", "long context", "tool use"),
    rows={
        "Llama 3 8B": ("April 2024", False, False, False, False),
        "Llama 3 8B Instruct": ("April 2024", True, False, False, False),
        "Llama 3 70B": ("April 2024", False, False, False, False),
        "Llama 3 70B Instruct": ("April 2024", True, False, False, False),
        "Llama 3.1 8B": ("July 2024", False, True, True, False),
        "Llama 3.1 8B Instruct": ("July 2024", True, True, True, True),
        "Llama 3.1 70B": ("July 2024", False, True, True, False),
        "Llama 3.1 70B Instruct": ("July 2024", True, True, True, True),
        "Llama 3.1 405B": ("July 2024", False, True, True, False),
        "Llama 3.1 405B Instruct": ("July 2024", True, True, True, True),
    },
    note="All results in the paper are for the Llama 3.1 models. "
    "Llama 3.2 came later and is not in it.",
)

PARAMETERS = Fact(405_000_000_000, "parameters", "§1", note="rounded; see architecture.TOTALS")
TOKENS = Fact(15_600_000_000_000, "tokens", "§1")
FLOPS = Fact(3.8e25, "FLOPs", "§1")
TIMES_LLAMA_2 = Fact(50, "times the FLOPs of the largest Llama 2", "§1", note='"almost 50x"')
LLAMA_2_TOKENS = Fact(1_800_000_000_000, "tokens", "§1", note="as this paper says")
CONTEXT_APRIL = Fact(8192, "tokens", "Llama 3 model card", "card")
CONTEXT = Fact(131_072, "tokens", "§3.3.2, Table 4", note="called 128K in the text")
KNOWLEDGE_CUTOFF = Fact("end of 2023", "", "§3.1")
LEVERS = Fact(("data", "scale", "managing complexity"), "", "§1")
REJECTED = Fact(
    ("mixture of experts", "reinforcement learning such as PPO"),
    "",
    "§1",
    note="considered and left out for stability and scaling; not overlooked",
)
LANGUAGES = Fact(
    ("English", "German", "French", "Italian", "Portuguese", "Hindi", "Spanish", "Thai"),
    "",
    "§5.2.4",
)
TOKENS_SMALL = Fact(15_000_000_000_000, "tokens", "Llama 3.1 model card", "card", "printed as 15T+")

PAPER = Fact("arXiv:2407.21783", "", "whole paper")
VERSION_1 = Fact("July 2024", "", "arXiv:2407.21783", "paper v1")
VERSION_3 = Fact("23 November 2024", "", "arXiv:2407.21783", "paper v3")
PAGES = Fact(92, "pages", "whole paper", "paper v3")
RELEASED_3_2 = Fact(
    "25 September 2024",
    "",
    "Llama 3.2 Vision model card",
    "card",
    "1B, 3B, 11B and 90B came after the paper's first version",
)
