"""Chapter 05: the quiz. Every choice has its explanation; wrong ones are real misconceptions."""

from widgets.core.quiz import Option, Question

_QUESTIONS: list[tuple[str, str, list[tuple[str, bool, str]]]] = [
    (
        "§3.4.1",
        "When does the batch of the 405B become 16M tokens?",
        [
            ("After 252M tokens", False, "There it becomes 8M, and the sequences 8,192 long."),
            (
                "After the 8,000 steps of warm-up",
                False,
                "The ramp is told in tokens, not in steps.",
            ),
            ("After 2.87T tokens", True, "4M at first, 8M after 252M tokens, 16M after 2.87T."),
            (
                "When the context grows to 128K",
                False,
                "That comes late in training; the batch is 16M before.",
            ),
        ],
    ),
    (
        "§3.4.2",
        "What must be true before the next stage of the long context begins?",
        [
            (
                "Short-context evaluations have recovered, and needles are found at that length",
                True,
                "Both are asked for. How many tokens a stage takes is not given.",
            ),
            ("The loss on long text is below a limit", False, "No such limit is in the paper."),
            (
                "133B tokens of the stage are read",
                False,
                "800B in six stages; no single one is told.",
            ),
            (
                "The needle is found, whatever short text does",
                False,
                "That is one of two. A model that forgets short text has not adapted.",
            ),
        ],
    ),
    (
        "from §3.4.3",
        "The final annealing has 40M tokens. At 16M a step, how many steps is that?",
        [
            ("2,500", False, "So many it would be with 40 billion tokens."),
            ("40", False, "That would be a million tokens a step."),
            ("2.5", True, "40 / 16. Both numbers are printed so; we show the arithmetic."),
            ("It cannot be known", False, "Tokens and tokens a step are both in the paper."),
        ],
    ),
    (
        "§3.4.3",
        "What is averaged for the final pre-trained model?",
        [
            (
                "The answers of several models",
                False,
                "That would be an ensemble; here is one model.",
            ),
            ("Checkpoints taken during annealing", True, "Polyak averaging: a mean of weights."),
            ("The gradients of the last steps", False, "AdamW does so, but in every step."),
            ("Checkpoints from the whole run", False, "The early ones are far away from the end."),
        ],
    ),
    (
        "§3.4.1",
        "How often was the 405B's run set back because its loss diverged?",
        [
            (
                "Never",
                True,
                "The paper tells of few loss spikes and no intervention for divergence.",
            ),
            (
                "Three times",
                False,
                "Often claimed. Three is another number, of manual interventions.",
            ),
            ("466 times", False, "So often was it interrupted in 54 days; that is another thing."),
            ("At each change of the batch", False, "The ramp is there to keep training stable."),
        ],
    ),
    (
        "§3.4.1",
        "Which betas of AdamW does the paper give for the 405B?",
        [
            (
                "0.9 and 0.95",
                False,
                "Common values, and the default here; the paper is silent.",
            ),
            ("0.9 and 0.999", False, "The default of many libraries; the paper does not say so."),
            ("0.9 and 0.98", False, "Known from the first Transformer; not in this paper."),
            ("None", True, "AdamW is named. Its betas, decay and clipping are not given."),
        ],
    ),
    (
        "from §3.4.1",
        "The cosine is made for 1,200,000 steps. Where is it when the 15.6T tokens are used up?",
        [
            ("At its end, 8e-7", False, "That takes 16.3T tokens with these batches."),
            (
                "A little before its end, near 1e-6",
                True,
                "After 1.10 to 1.15 million steps: at 1.1e-6 to 2.1e-6 by our arithmetic.",
            ),
            ("At half of the peak", False, "That is its middle, at about 600,000 steps."),
            ("At 0", False, "Only the annealing goes to 0, in a straight line."),
        ],
    ),
    (
        "§3.1.3",
        "What did the annealing data of the real models leave out on purpose?",
        [
            ("All code", False, "High-quality code is what it turns to, besides mathematics."),
            ("All text from the web", False, "Nothing of the kind is said."),
            (
                "Training sets of common benchmarks",
                True,
                "With them in, a benchmark would no longer tell what a model has learned.",
            ),
            (
                "Data that came before",
                False,
                "Sources of high quality are up-sampled, not new only.",
            ),
        ],
    ),
    (
        "our own analysis",
        "A batch is cut into parts. Why divide each loss by the targets of the whole batch?",
        [
            (
                "So that each target weighs the same, however the batch is cut",
                True,
                "A mean of means gives more weight to targets in parts with few of them.",
            ),
            ("It is faster", False, "It takes one count more, in fact."),
            (
                "So that the gradient gets smaller",
                False,
                "Its size is not the point; its direction is.",
            ),
            ("AdamW needs it", False, "AdamW takes any gradient; it cannot see how it was made."),
        ],
    ),
    (
        "§3.2",
        "Why does the mask keep attention within a document?",
        [
            (
                "To save memory",
                False,
                "Scores are computed or not; the mask is there for the content.",
            ),
            (
                "Another document in the same window tells nothing about this one",
                True,
                "They share a window by chance. For very long sequences it mattered in the paper.",
            ),
            ("So that the model can read backwards", False, "It stays causal, mask or not."),
            (
                "To make documents equally long",
                False,
                "Their lengths do not change: they are packed.",
            ),
        ],
    ),
]

QUIZ: list[Question] = [
    Question(prompt, [Option(text, why, correct=right) for text, right, why in choices], section)
    for section, prompt, choices in _QUESTIONS
]
