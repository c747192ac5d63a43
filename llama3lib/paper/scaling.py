"""The scaling law for the flagship (§3.2.1), with both pairs of coefficients the paper prints."""

from llama3lib.paper.facts import Fact

BUDGETS = Fact(
    (6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21, 1e22),
    "FLOPs",
    "§3.2.1, Figure 2",
    "figure",
)
MODEL_SIZES = Fact((40_000_000, 16_000_000_000), "parameters, least and most", "§3.2.1")
EXPONENT = Fact(0.53, "", "§3.2.1", note="printed in the text; see EXPONENT_FIGURE")
COEFFICIENT = Fact(0.29, "", "§3.2.1", note="printed in the text; see COEFFICIENT_FIGURE")
EXPONENT_FIGURE = Fact(0.537, "", "§3.2.1, Figure 3", "figure")
COEFFICIENT_FIGURE = Fact(0.299, "", "§3.2.1, Figure 3", "figure")
OPTIMAL_PARAMETERS = Fact(402_000_000_000, "parameters", "§3.2.1")
OPTIMAL_TOKENS = Fact(16_550_000_000_000, "tokens", "§3.2.1")
