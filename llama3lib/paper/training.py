"""How the 405B was pre-trained (§3.4), and sums that show where the printed numbers are odd."""

from llama3lib.paper.facts import Fact

OPTIMIZER = Fact("AdamW", "", "§3.4.1", note="betas and weight decay are not given")
PEAK_LEARNING_RATE = Fact(8e-5, "", "§3.4.1")
WARM_UP = Fact(8000, "steps", "§3.4.1", note="linear")
DECAY_STEPS = Fact(1_200_000, "steps", "§3.4.1", note="cosine")
FINAL_LEARNING_RATE = Fact(8e-7, "", "§3.4.1")
BATCH_TOKENS = Fact((4_000_000, 8_000_000, 16_000_000), "tokens per step", "§3.4.1")
BATCH_SEQUENCE = Fact(
    (4096, 8192, 8192), "tokens", "§3.4.1", note="the last is carried on, not printed"
)
BATCH_CHANGES = Fact((252_000_000, 2_870_000_000_000), "tokens seen", "§3.4.1")
LOSS_SPIKES = Fact("few, and no intervention for divergence", "", "§3.4.1")

LONG_CONTEXT_STAGES = Fact(6, "stages", "§3.4.2", note="from 8K to 128K; lengths not given")
LONG_CONTEXT_TOKENS = Fact(800_000_000_000, "tokens", "§3.4.2", note="about")
LONG_CONTEXT_GATES = Fact(
    (
        "short-context evaluations have fully recovered",
        "needle-in-a-haystack is solved up to that length",
    ),
    "",
    "§3.4.2",
)

ANNEALING_TOKENS = Fact(40_000_000, "tokens", "§3.4.3", note="as printed; see ANNEALING_STEPS")
ANNEALING_CONTEXT = Fact(131_072, "tokens", "§3.4.3")
ANNEALING_RATE = Fact("linear to 0", "", "§3.4.3")
AVERAGING = Fact("mean of checkpoints during annealing", "", "§3.4.3")

FIRST_BATCH_STEPS = Fact(
    63, "steps", "from §3.4.1", "computed", "252M tokens at 4M a step: inside the warm-up"
)
ANNEALING_STEPS = Fact(
    2.5,
    "steps",
    "from §3.4.3",
    "computed",
    "40M tokens at 16M a step, yet checkpoints are averaged",
)
STEPS_FOR_ALL_TOKENS = Fact(
    1_154_407, "steps", "from §3.4.1", "computed", "with decimal batches; fewer than 1.2M"
)
SLIPS = "Both odd values look like slips of a unit; they are the same in all versions."
LEARNING_RATE_AT_END = Fact(
    (1.1e-6, 2.1e-6),
    "",
    "from §3.4.1",
    "computed",
    "where the cosine is when 15.6T tokens are used up; 8e-7 is not reached",
)
STEPS_BINARY = Fact(1_101_000, "steps", "from §3.4.1", "computed", "with binary batches (2^20)")
TOKENS_FOR_ALL_STEPS = Fact(
    (16_300_000_000_000, 17_300_000_000_000),
    "tokens",
    "from §3.4.1",
    "computed",
    "1.2M steps, with decimal and with binary batches",
)
LONG_CONTEXT_STEPS = Fact(
    48_000, "steps", "from §3.4.2", "computed", "800B tokens at 16M (2^24) a step, about"
)
ANNEALING_SEQUENCES = Fact(305, "sequences of 128K", "from §3.4.3", "computed", "all 40M tokens")
ANNEALING_STUDY_TOKENS = Fact(
    40_000_000_000, "tokens", "§3.1.3", note="a side study on a half-trained 8B"
)
MIX_CHANGES = Fact(
    (
        "more text that is not English",
        "more mathematics",
        "newer web data late",
        "less of subsets found poor",
    ),
    "",
    "§3.4.1",
)
NOT_GIVEN = (
    "AdamW betas and epsilon",
    "weight decay of the flagship",
    "gradient clipping",
    "data per stage",
    "RoPE scaling",
    "lengths of the six long-context stages",
)
UNCLEAR = "Whether the 800B long-context tokens are part of the 15.6T or come on top is not clear."
