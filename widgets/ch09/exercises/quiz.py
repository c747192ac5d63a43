"""Chapter 09: the quiz. Every choice has its explanation; wrong ones are real misconceptions."""

from llama3lib.paper import inference as facts
from widgets.core.quiz import Option, Question

_WEIGHTS, _SERVER = facts.BF16_GIGABYTES.value, facts.SERVER_GIGABYTES.value
_GPUS, _TENSOR = facts.GPUS_BF16.value, facts.TENSOR_PARALLEL.value
_STAGES, _MICRO = facts.PIPELINE_PARALLEL.value, facts.MICRO_BATCHES.value
_TIME, _SHARE = facts.FFN_TIME.value, facts.FFN_PARAMETERS.value
_SCORED, _BOUND = facts.RESPONSES_SCORED.value, facts.SCALE_BOUND.value
_CONVERTED = facts.FP8_PARAMETERS.value / (_WEIGHTS / 2)
_CARD = _SERVER // 8

_QUESTIONS: list[tuple[str, str, list[tuple[str, bool, str]]]] = [
    (
        "§6.1",
        f"The 405B has {_WEIGHTS} GB of weights in BF16. On how many GPUs of {_CARD} GB was it "
        "served, and how arranged?",
        [
            (
                "8 in one machine",
                False,
                f"They have {_SERVER} GB together: not even the weights fit.",
            ),
            (
                "11, the fewest whose memory is enough",
                False,
                "Then 68 GB would be left for all caches; and 11 divides neither heads nor layers.",
            ),
            (
                f"{_GPUS}: matrices cut over the {_TENSOR} of a machine, layers over "
                f"{_STAGES} machines",
                True,
                "Tensor parallel where the wires are fast, a pipeline where they are slow.",
            ),
            (
                f"{_GPUS}: every matrix cut over all of them",
                False,
                "Each layer would wait for the network between two machines, several times.",
            ),
        ],
    ),
    (
        "§6.2 and from §3.2",
        f"Feed-forward layers are about {_TIME:.0%} of one thing and {_SHARE:.0%} of another. Of "
        "what?",
        [
            (
                f"{_TIME:.0%} of the compute time, {_SHARE:.0%} of the parameters",
                True,
                "The time is the paper's number, the parameters are arithmetic. In the 124 layers "
                f"that are converted they are {_CONVERTED:.0%} of all.",
            ),
            (
                f"{_TIME:.0%} of the parameters, {_SHARE:.0%} of the compute time",
                False,
                "The other way round: three matrices of 16,384 by 53,248 in each layer.",
            ),
            (
                f"{_TIME:.0%} more throughput, {_SHARE:.0%} less memory",
                False,
                "Those would be gains of FP8. Here the question is what there is to gain from.",
            ),
            (
                f"{_TIME:.0%} of the layers, {_SHARE:.0%} of the weights in FP8",
                False,
                "Every layer has a feed-forward part.",
            ),
        ],
    ),
    (
        "§6.2",
        "Which weights stay in BF16 when the 405B is served in FP8?",
        [
            (
                "None: all matrices are converted",
                False,
                "Self-attention was left alone, and so were two layers.",
            ),
            (
                "Those of the feed-forward layers",
                False,
                "It is the other way round: those are what is converted.",
            ),
            (
                "The embedding and the output matrix only",
                False,
                "Far more stays: all of self-attention, and two whole layers.",
            ),
            (
                "Self-attention everywhere, and the first and last layers",
                True,
                "Converted are the feed-forward matrices of the 124 layers between.",
            ),
        ],
    ),
    (
        "§6.2",
        "Without a bound on the scales some answers are corrupted. Why do benchmarks not show it?",
        [
            (
                "They had been run in BF16",
                False,
                "They were run in FP8, and looked as good as before.",
            ),
            (
                "They look at a few marked tokens on average; rare breakdowns do not move that",
                True,
                "That it did not show is in the paper; this reason is our reading. The scores of a "
                "reward model judge each whole answer.",
            ),
            (
                "Benchmarks hold no numbers or dates",
                False,
                "Many do. A rare wrong answer still moves an average little.",
            ),
            (
                "The corruption was in the training data",
                False,
                "It came from numbers that vanish when one huge number sets the scale.",
            ),
        ],
    ),
    (
        "§6.2, Figure 26",
        f"{_SCORED:,} of what were compared to judge FP8?",
        [
            ("Questions of benchmarks", False, "Those did not show the trouble."),
            ("Tokens of held-out text", False, "Whole answers were scored, not single tokens."),
            (
                "Requests a second",
                False,
                "Throughput is measured as well, but that is Figure 27.",
            ),
            (
                "Responses, each scored by a reward model",
                True,
                "The two distributions of scores, FP8 and BF16, lie nearly on each other.",
            ),
        ],
    ),
    (
        "§6.1",
        f"Inference has no backward pass. What are {_MICRO} micro-batches good for, then?",
        [
            (
                "While one is in the second machine, the first machine works on the other",
                True,
                "More throughput in prefill and in decoding; the price is a longer wait.",
            ),
            ("They make each answer come sooner", False, "Later: more points have to wait."),
            (
                "Gradients are summed over them",
                False,
                "There are no gradients: nothing is learned while serving.",
            ),
            (
                "They halve the memory of the weights",
                False,
                "The weights lie there once, whatever is sent through them.",
            ),
        ],
    ),
    (
        "§6.2 and released kernels",
        f"What does the bound of {_BOUND:,} do?",
        [
            (
                f"No scale is larger than {_BOUND:,}",
                False,
                "So it reads at first. In the released kernels it acts before the division by 448.",
            ),
            (
                f"A row's largest number counts as at most {_BOUND:,}; what is larger is cut",
                True,
                f"So the scale is at most {facts.LARGEST_SCALE.value}. One number suffers, and the "
                "rest of the row lives.",
            ),
            (
                f"Prompts are cut after {_BOUND:,} tokens",
                False,
                "It is about the size of numbers, not about lengths.",
            ),
            (
                "Rows with larger numbers stay in BF16",
                False,
                "Which layers are converted is fixed before; no row is left out.",
            ),
        ],
    ),
    (
        "our own analysis",
        "Why is writing bound by memory, and reading a prompt by arithmetic?",
        [
            (
                "Writing needs more memory than reading",
                False,
                "Both use the same weights and the same cache. How fast they come is the point.",
            ),
            (
                "All weights are fetched for one token of each text, or for thousands of a prompt",
                True,
                "The bytes are the same; the sums for each byte are not. Hence large batches when "
                "writing.",
            ),
            (
                "Reading uses no cache",
                False,
                "It fills the cache, and later pieces of a prompt read it.",
            ),
            (
                "Writing runs on the CPU",
                False,
                "Both run on the same chip, with the same matrices.",
            ),
        ],
    ),
    (
        "our own analysis",
        "What does a block table save?",
        [
            (
                "Arithmetic: fewer products are taken",
                False,
                "Each query meets the same keys, wherever they lie.",
            ),
            (
                "Bytes of each key",
                False,
                "Keys keep their size; grouped queries or FP8 make them smaller.",
            ),
            (
                "Room kept for tokens that never come, and copies of equal beginnings",
                True,
                "At most one block of a text is partly empty, and a shared prompt is held once.",
            ),
        ],
    ),
    (
        "our own analysis",
        "A text is preempted: its blocks are taken away, and later it goes on. What does it cost, "
        "and why is the text the same?",
        [
            (
                "Nothing: blocks are only renamed",
                False,
                "Their content is overwritten by somebody else.",
            ),
            (
                "Its tokens are read once more; the cache follows from the tokens, and those stay",
                True,
                "Read again like a prompt, it has the same keys and values, and its own dice.",
            ),
            (
                "What it had written: it begins again after the prompt, and may come out otherwise",
                False,
                "What was written is kept. Only keys and values have to be made again.",
            ),
            (
                "Memory: the blocks are kept on a disk meanwhile",
                False,
                "Some servers do so. Here they are computed again.",
            ),
        ],
    ),
    (
        "our own analysis",
        "Speculative decoding lets a small model guess. Why is the text still the large model's?",
        [
            (
                "The small model is trained to write the same",
                False,
                "Then more guesses are kept. The distribution is right for a bad draft, too.",
            ),
            (
                "A guess is kept only if the large model likes it more than the small one does",
                False,
                "Then some tokens would come out too rarely. It is kept with chance p / q.",
            ),
            (
                "Kept with chance min(1, p / q), a token gets min(p, q); the replacement brings "
                "what is missing to p",
                True,
                "min(p, q) and max(p - q, 0) make p, for each token.",
            ),
            (
                "The large model writes the text a second time and compares",
                False,
                "It reads all guesses in one step; to write them would take as many steps as ever.",
            ),
        ],
    ),
]

QUIZ: list[Question] = [
    Question(prompt, [Option(text, why, correct=right) for text, right, why in choices], section)
    for section, prompt, choices in _QUESTIONS
]
