"""The scaling law for the flagship (§3.2.1), with both pairs of coefficients the paper prints.

N*(C) = A · C^alpha is a number of training tokens; parameters follow as C / (6 · N*).
"""

from llama3lib.paper.facts import Fact, Table

_SECTION, _FROM = "§3.2.1", "from §3.2.1"

BUDGETS = Fact(
    (6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21, 1e22),
    "FLOPs",
    "§3.2.1, Figure 2",
    "figure",
)
BUDGET_ENDS = Fact((6e18, 1e22), "FLOPs, least and most", _SECTION)
MODEL_SIZES = Fact((40_000_000, 16_000_000_000), "parameters, least and most", _SECTION)
WARM_UP = Fact(2000, "steps", _SECTION, note="then cosine")
PEAK_LEARNING_RATES = Fact((2e-4, 4e-4), "least and most", _SECTION, note="by size of the model")
FINAL_LEARNING_RATE = Fact(0.1, "of the peak", _SECTION)
WEIGHT_DECAY = Fact(0.1, "times the learning rate at that step", _SECTION)
BATCH_TOKENS = Fact(
    (250_000, 4_000_000), "tokens, least and most", _SECTION, note="fixed for each budget"
)
CURVE = Fact(
    "a polynomial of second degree for each budget; its minimum is the optimum",
    "",
    "§3.2.1, Figure 2",
    note="validation loss over training tokens",
)

EXPONENT = Fact(0.53, "", _SECTION, note="printed in the text; see EXPONENT_FIGURE")
COEFFICIENT = Fact(0.29, "", _SECTION, note="printed in the text; see COEFFICIENT_FIGURE")
EXPONENT_FIGURE = Fact(0.537, "", "§3.2.1, Figure 3", "figure")
COEFFICIENT_FIGURE = Fact(0.299, "", "§3.2.1, Figure 3", "figure")
OPTIMAL_PARAMETERS = Fact(402_000_000_000, "parameters", _SECTION, note="at 3.8e25 FLOPs")
OPTIMAL_TOKENS = Fact(16_550_000_000_000, "tokens", _SECTION, note="at 3.8e25 FLOPs")
ORDERS_PRINTED = Fact("over four", "orders of magnitude", _SECTION)
ORDERS = Fact(3.58, "orders of magnitude", _FROM, "computed", "from 1e22 to 3.8e25 FLOPs")
DOWNSTREAM = Fact(
    ("loss per character is linear in log FLOPs", "accuracy is a sigmoid of that loss"),
    "",
    "§3.2.1, Figure 4",
    note="shown for ARC Challenge; the second step uses the Llama 2 models too",
)

LAW_TABLE = Table(
    title="What digits of alpha and A do at 3.8e25 FLOPs",
    section=_FROM,
    columns=("alpha", "A", "tokens (T)", "parameters (B)"),
    rows={
        "text": (0.53, 0.29, 10.46, 605),
        "figure": (0.537, 0.299, 16.29, 389),
        "figure, one more digit": (0.5373, 0.299, 16.58, 382),
        "A of the text": (0.5378, 0.29, 16.57, 382),
        "lower corner of rounding": (0.525, 0.285, 7.66, 827),
        "upper corner of rounding": (0.535, 0.295, 14.29, 443),
    },
    reliability="computed",
    note="16.55T is out of reach of any pair that rounds to (0.53, 0.29). Use the figure's pair.",
)
SENSITIVITY = Fact(58.9, "d ln N* / d alpha", _FROM, "computed", "ln 3.8e25")
SHIFT_OF_ALPHA = Fact(0.34, "of the tokens", _FROM, "computed", "for 0.005 more in alpha")
AT_1E20 = Table(
    title="The same law at 1e20 FLOPs",
    section=_FROM,
    columns=("tokens", "parameters"),
    rows={"text": (1.155e10, 1.444e9), "figure": (1.643e10, 1.014e9)},
    reliability="computed",
)
FLOPS_OF_OPTIMUM = Fact(3.99e25, "FLOPs", _FROM, "computed", "6 · 402B · 16.55T, not 3.8e25")
FLOPS_PER_PRODUCT = Table(
    title="FLOPs by parameters times tokens; the usual rule says 6",
    section="from §1 and §3.2.1",
    columns=("C / (N·D)",),
    rows={"402B on 16.55T": (5.71,), "405B on 15.6T": (6.01,)},
    reliability="computed",
)
PARTNER = Fact(383_000_000_000, "parameters", _FROM, "computed", "3.8e25 / (6 · 16.55T)")
TOKENS_PER_PARAMETER = Table(
    title="Training tokens for each parameter",
    section="from §1 and §3.2.1",
    columns=("tokens per parameter",),
    rows={
        "402B on 16.55T": (41.2,),
        "405B on 15.6T": (38.5,),
        "70B on 15T": (214,),
        "8B on 15T": (1875,),
    },
    reliability="computed",
    note="The 15T of the small models are from the model card.",
)
TWENTY_TO_ONE = Fact(
    8_100_000_000_000, "tokens", "from §1", "computed", "405B by the rule of 20 tokens each"
)
SIX_ND = Table(
    title="6 · parameters · tokens",
    section="from §1 and §3.2, Table 3",
    columns=("parameters", "tokens", "FLOPs"),
    rows={
        "8B": (8.030e9, 15e12, 7.23e23),
        "70B": (70.55e9, 15e12, 6.35e24),
        "405B": (405.85e9, 15.6e12, 3.80e25),
        "Llama 2 70B": (70e9, 1.8e12, 7.56e23),
    },
    reliability="computed",
)
TIMES_LLAMA_2 = Fact(50.3, "times the FLOPs", "from §1", "computed", 'the paper: "almost 50x"')


def optimal_tokens(flops: float, exponent: float, coefficient: float) -> float:
    """Training tokens by the law of §3.2.1: coefficient · flops^exponent.

    Raises ValueError if the budget is not above 0.
    """
    if not flops > 0:
        raise ValueError(f"flops={flops!r} is not allowed: use a number above 0")
    return coefficient * flops**exponent
