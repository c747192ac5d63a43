"""Chapter 03: the quiz. Every choice has its explanation; wrong ones are real misconceptions."""

import math

from llama3lib.paper import herd
from llama3lib.paper import scaling as facts
from widgets.core.quiz import Option, Question

_FLOPS = herd.FLOPS.value
_LARGEST = facts.BUDGET_ENDS.value[1]
_TOKENS, _SIZE = facts.OPTIMAL_TOKENS.value, facts.OPTIMAL_PARAMETERS.value
_TRAINED, _CHOSEN = herd.TOKENS.value, herd.PARAMETERS.value
_EXPONENT, _FIGURE = facts.EXPONENT.value, facts.EXPONENT_FIGURE.value
_EACH = facts.TOKENS_PER_PARAMETER
_RATIOS = {
    size: _EACH.cell(row, "tokens per parameter")
    for size, row in (("8B", "8B on 15T"), ("70B", "70B on 15T"), ("405B", "405B on 15.6T"))
}
_SMALL = sum(facts.SIX_ND.cell(size, "FLOPs") for size in ("8B", "70B")) / _FLOPS
_FEWER = 1 - _FLOPS ** (_EXPONENT - _FIGURE)
_TIMES = _FLOPS / _LARGEST


def _short(flops: float) -> str:
    return f"{flops:g}".replace("e+", "e")


_QUESTIONS: list[tuple[str, str, list[tuple[str, bool, str]]]] = [
    (
        "§3.2.1, Figure 3",
        "The law N*(C) = A · C^alpha is drawn over compute. What is on its y axis?",
        [
            (
                "The best number of parameters",
                False,
                f"Often claimed. The law gives {_TOKENS / 1e12:.4g}T at the flagship's "
                "budget: no size of a model.",
            ),
            (
                "The lowest validation loss",
                False,
                "That falls with compute. N* rises.",
            ),
            (
                "The best number of training tokens",
                True,
                "Parameters follow from the budget: C / (6 · N*).",
            ),
            (
                "Tokens for each parameter",
                False,
                "That can be computed from it, but it grows far more slowly.",
            ),
        ],
    ),
    (
        "§3.2.1, Figure 2",
        "What is the same for all runs of one isoFLOP curve?",
        [
            (
                "The number of training tokens",
                False,
                "It is the x axis of Figure 2. Larger models get fewer of them.",
            ),
            (
                "The training compute",
                True,
                "Parameters times tokens is fixed. Only how it is shared out changes.",
            ),
            (
                "The number of parameters",
                False,
                "Sizes change along the curve. One size on more and more tokens is another curve.",
            ),
            (
                "The loss",
                False,
                "It is the y axis. The lowest point is what one looks for.",
            ),
        ],
    ),
    (
        "§3.2.1",
        f"The law says {_SIZE / 1e9:.0f}B parameters on {_TOKENS / 1e12:.2f}T tokens. Why was it "
        f"no mistake to train {_CHOSEN / 1e9:.0f}B on {_TRAINED / 1e12:.1f}T?",
        [
            (
                "The curves are flat around their lowest point, and flatter with more compute",
                True,
                "A little to the left or to the right costs next to nothing. So other reasons may "
                "decide about the shape.",
            ),
            (
                "A larger model is always better than a smaller one",
                False,
                "Not at the same compute: it then sees fewer tokens. That is why the curve rises.",
            ),
            (
                "It keeps to Chinchilla's 20 tokens for each parameter",
                False,
                f"That would be {facts.TWENTY_TO_ONE.value / 1e12:.1f}T tokens; it had "
                f"{_RATIOS['405B']:.1f} for each.",
            ),
        ],
    ),
    (
        "from §1 and §3.2.1",
        f"Tokens for each parameter: 405B {_RATIOS['405B']:.1f}, 70B {_RATIOS['70B']:,}, 8B "
        f"{_RATIOS['8B']:,}. Why so many for the small ones?",
        [
            (
                "The law says that small models need more tokens for each parameter",
                False,
                "It says the opposite: the best ratio grows with compute. They are far off the "
                "law, on purpose.",
            ),
            (
                "There was compute left over",
                False,
                f"They were planned so. Together they cost {_SMALL:.0%} of what the 405B did.",
            ),
            (
                "Small models forget, and must read everything several times",
                False,
                "What counts here is the loss that a size can still win with more tokens.",
            ),
            (
                "A model is trained once and used often; a smaller one is cheaper each time",
                True,
                "Training past the optimum buys a lower loss at the same cost of use.",
            ),
        ],
    ),
    (
        "§3.2.1",
        f"The largest runs behind the law had {_short(_LARGEST)} FLOPs, the flagship had "
        f"{_short(_FLOPS)}. How far is that?",
        [
            (
                f"{facts.ORDERS.value} orders of magnitude",
                True,
                f'log10 of {_TIMES:,.0f}. The paper writes "{facts.ORDERS_PRINTED.value}".',
            ),
            (
                f"{facts.ORDERS_PRINTED.value[:1].upper()}{facts.ORDERS_PRINTED.value[1:]} orders "
                "of magnitude",
                False,
                f"So it is printed. Four would be a factor of 10,000; it is {_TIMES:,.0f}.",
            ),
            (
                f"{math.log(_TIMES):.1f} orders of magnitude",
                False,
                "That is the natural logarithm. Orders of magnitude are powers of ten.",
            ),
        ],
    ),
    (
        "§3.2.1, Figure 4",
        "Accuracy on a benchmark is predicted in two steps: FLOPs to loss, loss to accuracy. Which "
        "assumption joins them?",
        [
            (
                "Accuracy is linear in log FLOPs",
                False,
                "The loss of the right answers is. Accuracy follows a sigmoid: it waits, climbs, "
                "and saturates.",
            ),
            (
                "Every benchmark has the same curve",
                False,
                "The sigmoid is fitted for each benchmark by itself.",
            ),
            (
                "Models of equal loss on the answers have equal accuracy, however they were made",
                True,
                "Only so may models of the Llama 2 family, with other data and another tokenizer, "
                "help to fit the second step.",
            ),
            (
                "The validation loss is the same as the loss on the benchmark",
                False,
                "The loss used here is that of the benchmark's right answers, for each character.",
            ),
        ],
    ),
    (
        "from §3.2.1",
        f"Somebody uses alpha = {_EXPONENT} instead of {_FIGURE}, all else equal. What happens to "
        f"the tokens at {_short(_FLOPS)} FLOPs?",
        [
            (
                f"{1 - _EXPONENT / _FIGURE:.1%} fewer",
                False,
                "That is the change of the exponent, as a share. It acts on ln C, which is about "
                f"{facts.SENSITIVITY.value:.0f}.",
            ),
            (
                "Nothing that matters: both are rounded to 0.5",
                False,
                "An exponent stands above a number with 25 zeros.",
            ),
            (
                "Ten times fewer",
                False,
                f"That takes {math.log(10) / facts.SENSITIVITY.value:.3f} less in the exponent.",
            ),
            (
                f"{_FEWER:.0%} fewer",
                True,
                f"exp(-{_FIGURE - _EXPONENT:.3f} · {facts.SENSITIVITY.value}). With both numbers "
                f"of the text it is {facts.LAW_TABLE.cell('text', 'tokens (T)')}T against "
                f"{facts.LAW_TABLE.cell('figure', 'tokens (T)')}T.",
            ),
        ],
    ),
    (
        "§3.2.1; the reason is ours",
        "Each run of the sweep has a cosine that ends with the run. Why not train once for long "
        "and read the loss off at each budget?",
        [
            (
                "It would cost more compute",
                False,
                "It would cost less: one run for each size. That is the temptation.",
            ),
            (
                "A run that is stopped early has a high rate, and so too high a loss",
                True,
                "Low rates bring a good part of the loss. Stopped runs look worse than they could "
                "be, some sizes more than others, and the lowest point moves.",
            ),
            (
                "The loss would be too low",
                False,
                "Too high: the fall of the rate, which lowers the loss, is still to come.",
            ),
        ],
    ),
    (
        "our own analysis",
        "A straight line through the lowest losses, on log-log paper, without a floor. What does "
        "it predict far beyond the runs?",
        [
            (
                "Too high a loss",
                False,
                "The points bend upward towards the floor; the line goes on below them.",
            ),
            (
                "Nothing wrong: a power law is a straight line there",
                False,
                "Only what lies above the floor is. The floor is a part of every loss.",
            ),
            (
                "Too low a loss",
                True,
                "The line goes to 0. The loss goes to what no model can know about the next token.",
            ),
            (
                "Too many parameters",
                False,
                "That is the other law. The best size has no floor.",
            ),
        ],
    ),
    (
        "our own analysis",
        "Small models are mostly embedding. Somebody counts neither parameters nor FLOPs of "
        "embedding and output matrix. What happens to the law of the best size?",
        [
            (
                "It gets steeper: small models shrink most, so growth seems faster",
                True,
                "The exponent of the parameters rises, and the advice becomes larger models on "
                "fewer tokens.",
            ),
            (
                "Nothing: a power law stays one with the same exponent",
                False,
                "Only if every size lost the same share. Small models lose far more.",
            ),
            (
                "It gets flatter: all models are smaller",
                False,
                "Small ones shrink more than large ones, which makes the line steeper.",
            ),
            (
                "The lowest loss falls",
                False,
                "The runs are the same. They are only counted in another way.",
            ),
        ],
    ),
]

QUIZ: list[Question] = [
    Question(prompt, [Option(text, why, correct=right) for text, right, why in choices], section)
    for section, prompt, choices in _QUESTIONS
]
