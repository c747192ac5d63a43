"""How the training text was made (§3.1): the web pipeline, the mix, data tests by annealing."""

from llama3lib.paper import architecture, herd, training
from llama3lib.paper.facts import Fact, Table

STAGES = Table(
    title="The web pipeline, in the paper's order",
    section="§3.1.1",
    columns=("what is done", "number given"),
    rows={
        "PII and safety": ("sites with personal data, harmful or adult content are removed", None),
        "extraction": ("a parser of their own: structure of maths and code kept, alt text", None),
        "markdown": ("all markers removed: they hurt a model trained mostly on the web", None),
        "URLs": ("the most recent version of each page is kept", None),
        "documents": ("near-duplicates removed over the whole data set, with MinHash", None),
        "lines": ("lines that come more than 6 times in 30M documents are removed", 6),
        "repeated n-grams": ("logs and errors: long, unique lines of repeated content", None),
        "word lists": ("adult sites that block lists miss", None),
        "token distribution": ("documents far from the corpus by KL divergence", None),
        "quality": ("fastText and DistilRoBERTa classifiers", None),
        "code and reasoning": ("classifiers and an extraction of their own", None),
        "languages": ("176, each with its own de-duplication and ranking", 176),
    },
    note="Thresholds are given for lines only; no step's removal rate is.",
)
LINE_LIMIT = Fact(6, "times in a bucket", "§3.1.1", note="lines with more are removed")
LINE_BUCKET = Fact(30_000_000, "documents", "§3.1.1")
LANGUAGES_IDENTIFIED = Fact(176, "languages", "§3.1.1", note="by a fastText model")
QUALITY_FAST = Fact("would Wikipedia cite this text?", "", "§3.1.1", note="a fastText classifier")
QUALITY_DISTILLED = Fact("DistilRoBERTa, trained on the judgements of Llama 2 chat", "", "§3.1.1")
LINE_COST = Fact(
    "some good frequent text was lost too, and evaluations still improved strongly", "", "§3.1.1"
)

KINDS = ("general knowledge", "mathematics and reasoning", "code", "multilingual")
MIX = Fact((50, 25, 17, 8), "percent of the tokens", "§3.1.2", note=", ".join(KINDS))
MIX_TOKENS = Fact(
    tuple(round(share / 100 * herd.TOKENS.value) for share in MIX.value),
    "tokens",
    "from §1 and §3.1.2",
    "computed",
    "the mix changed during training (§3.4.1), so these are rough",
)
MIX_TOOLS = Fact(("knowledge classification", "scaling laws for the mix"), "", "§3.1.2")

ANNEALING_GAINS = Table(
    title="Side experiment: benchmark training sets in the annealing data",
    section="§3.1.3",
    columns=("8B", "405B"),
    rows={"GSM8k": (24.0, None), "MATH": (6.4, None)},
    marks={("GSM8k", "405B"): "negligible", ("MATH", "405B"): "negligible"},
    note="Percent; the text does not say whether points or relative. The real annealing data "
    "holds no training sets of common benchmarks.",
)
DATA_TEST_SHARES = Fact((30, 70), "percent new and default data", "§3.1.3")
DATA_TEST_TOKENS = training.ANNEALING_STUDY_TOKENS
DATA_TEST_MODEL = Fact("an 8B trained to 50 percent", "", "§3.1.3")

CHARACTERS_PER_TOKEN_BEFORE = Fact(
    3.17, "characters per token", "§3.2", note="Llama 2, on a sample of English"
)
CHARACTERS_PER_TOKEN = architecture.CHARACTERS_PER_TOKEN
