"""Chapter 01: the quiz. Every choice has its explanation; wrong ones are real misconceptions."""

from widgets.core.quiz import Option, Question

_QUESTIONS: list[tuple[str, str, list[tuple[str, bool, str]]]] = [
    (
        "§1, Table 2",
        "What makes the 405B historically significant?",
        [
            (
                "It was the largest model ever trained.",
                False,
                "Nobody outside can say: sizes of the closed models are not published.",
            ),
            (
                "It was the first open model with a long context.",
                False,
                "All three sizes of 3.1 have it, the 8B included: it does not set the 405B apart.",
            ),
            (
                "Anyone could download it, and it stood level with the best closed models.",
                True,
                "Table 2: 14 rows won, 1 lost, 1 tied against GPT-4 (0125).",
            ),
            (
                "It was the first model with grouped-query attention.",
                False,
                "Llama 2 70B had it a year earlier.",
            ),
        ],
    ),
    (
        "§3.2, Table 3",
        "Why does Llama 3 use 8 key/value heads?",
        [
            (
                "To shrink the cache that is read again for each new token.",
                True,
                "At 8B, 70B and 405B, 4, 8 and 16 query heads share one: so much less cache.",
            ),
            (
                "To shrink the feed-forward layers.",
                False,
                "They have no heads; their size does not depend on it.",
            ),
            (
                "Because there are only 8 query heads.",
                False,
                "There are 32, 64 and 128 (Table 3).",
            ),
            (
                "To make the context longer.",
                False,
                "A smaller cache makes long contexts affordable, but positions come from RoPE.",
            ),
        ],
    ),
    (
        "from §3.2, Table 3",
        "The cache of the 405B at 131,072 tokens in bfloat16, with GQA and with one KV head per "
        "query head?",
        [
            (
                "16 GiB and 64 GiB",
                False,
                "Those are the 8B's. The 405B has 126 layers, not 32, and 128 query heads.",
            ),
            (
                "63 GiB and 1,008 GiB",
                True,
                "2 · 126 · 8 · 128 · 2 bytes = 516,096 a token; 16 times that without sharing.",
            ),
            (
                "63 GiB and 252 GiB",
                False,
                "Four query heads share in the 8B; in the 405B sixteen do.",
            ),
            (
                "31.5 GiB and 504 GiB",
                False,
                "Half: keys and values are both kept, or count 2 bytes for each number.",
            ),
        ],
    ),
    (
        "§3.2, Table 3; rule: released code",
        "Where does the 8B's feed-forward width of 14,336 come from?",
        [
            (
                "4 · 4,096, then reduced to fit the memory of one GPU.",
                False,
                "4 · 4,096 is 16,384; the reduction is a rule with three steps, not a fit.",
            ),
            (
                "112 heads of size 128.",
                False,
                "The feed-forward layer has no heads. The product is a coincidence.",
            ),
            (
                "It was found by a scaling law.",
                False,
                "The paper's law gives tokens for a compute budget, not widths.",
            ),
            (
                "⅔ · 4 · 4,096 · 1.3, rounded up to a multiple of 1,024.",
                True,
                "⅔ because SwiGLU has three matrices; 1.3 and 1,024 are in the released code.",
            ),
        ],
    ),
    (
        "§3.2",
        "Which of these is NOT a change from Llama 2 to Llama 3?",
        [
            (
                "A mask that separates documents in a row",
                False,
                "It is new (§3.2), and matters most for very long rows.",
            ),
            ("SwiGLU instead of ReLU", True, "SwiGLU is there since the first Llama."),
            (
                "A vocabulary of 128K tokens",
                False,
                "It is new (§3.2): more pieces, fewer tokens for the same text.",
            ),
            (
                "A RoPE base of 500,000",
                False,
                "It is new: a larger base for longer contexts (§3.2).",
            ),
        ],
    ),
    (
        "§3.2, Table 3; released tokenizer",
        "Table 3 prints a vocabulary of 128,000; the released models have 128,256. Why?",
        [
            (
                "256 special tokens, most of them reserved, come on top.",
                True,
                "128,000 learned pieces plus begin, end, header and reserved tokens.",
            ),
            (
                "The paper has a typing error.",
                False,
                "It prints a round number for the learned pieces; both numbers are right.",
            ),
            (
                "256 single bytes are added for unknown characters.",
                False,
                "The 256 bytes are already among the 128,000 pieces.",
            ),
            (
                "GPUs need a multiple of 256.",
                False,
                "128,000 is a multiple of 256 already: it is 500 · 256.",
            ),
        ],
    ),
    (
        "§3.2; ours",
        "Which change of its input does RMSNorm NOT notice?",
        [
            (
                "Every number grows by 1,000.",
                False,
                "It would notice: the pattern shrinks to almost nothing. LayerNorm would not.",
            ),
            (
                "One channel becomes 1,000 times larger.",
                False,
                "It would notice: all other channels come out smaller.",
            ),
            (
                "Every number is multiplied by 1,000.",
                True,
                "Size divides out (eps apart). That is the point of a norm.",
            ),
            (
                "Every number changes its sign.",
                False,
                "It would notice: the output changes its sign, too.",
            ),
        ],
    ),
    (
        "§3.2; ours",
        "A query at position 7 scores a key at position 4. Both move to 1,007 and 1,004. With RoPE "
        "the score…",
        [
            (
                "falls, because large positions turn further",
                False,
                "Both turn further by the same angle, and the angle between them stays.",
            ),
            (
                "stays the same",
                True,
                "Only the distance is left when two turned hands are compared.",
            ),
            (
                "becomes zero beyond the trained length",
                False,
                "Nothing is cut off; unseen distances are a problem, unseen positions are not.",
            ),
            (
                "depends on the values as well",
                False,
                "Values are not turned and play no part in the score.",
            ),
        ],
    ),
    (
        "ours",
        "A checkpoint in the halves layout is loaded into code for the neighbour layout, rows "
        "unchanged. What happens?",
        [
            (
                "An error about shapes",
                False,
                "All shapes fit. That is what makes this bug so long-lived.",
            ),
            (
                "The same output: rows have no order",
                False,
                "Row order decides which channels turn together.",
            ),
            (
                "Slightly worse text; most heads do not mind",
                False,
                "Almost every pair turns with the wrong partner at the wrong speed.",
            ),
            (
                "It runs, and the text is nonsense",
                True,
                "So test logits, not shapes. The cure is exercise 01.3.",
            ),
        ],
    ),
]

QUIZ: list[Question] = [
    Question(prompt, [Option(text, why, correct=right) for text, right, why in choices], section)
    for section, prompt, choices in _QUESTIONS
]
