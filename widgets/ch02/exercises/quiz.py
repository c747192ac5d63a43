"""Chapter 02: the quiz. Every choice has its explanation; wrong ones are real misconceptions."""

from widgets.core.quiz import Option, Question

_QUESTIONS: list[tuple[str, str, list[tuple[str, bool, str]]]] = [
    (
        "§3.1.2",
        "The final mix is 50 / 25 / 17 / 8 percent. Which part is mathematics and reasoning?",
        [
            ("50", False, "That is the share of general knowledge."),
            ("25", True, "A quarter of all tokens: far more than the web would give by itself."),
            ("17", False, "That is the share of code."),
            ("8", False, "That is the share of text in other languages."),
        ],
    ),
    (
        "§3.1.1",
        "What did the paper do with Markdown?",
        [
            ("Kept it: it shows the structure.", False, "For code and maths yes, not here."),
            ("Removed all of its markers.", True, "They hurt a model trained mostly on the web."),
            ("Turned HTML into it.", False, "Many pipelines do; this one went the other way."),
            ("Nothing is said.", False, "It is a sentence of its own in section 3.1.1."),
        ],
    ),
    (
        "from §3.2",
        "3.17 characters a token became 3.94. How many tokens does the same English text save?",
        [
            ("24.3 percent", False, "That is how many more characters fit into a token."),
            ("19.5 percent", True, "1 − 3.17 / 3.94 = 0.195: so many tokens fewer."),
            ("0.77 percent", False, "0.77 is the difference, in characters."),
            ("none, the text is the same", False, "The same characters in fewer, longer tokens."),
        ],
    ),
    (
        "§3.2.1",
        "Is 15.6T tokens twice what is optimal for 405B parameters?",
        [
            (
                "By Chinchilla's 20 to 1, yes; by the paper's own law, no.",
                True,
                "20 · 405B is 8.1T. The paper's law gives 402B on 16.55T for its budget.",
            ),
            ("Yes, by any law.", False, "The paper fitted its own law to its own data."),
            ("No, it is half of it.", False, "8.1T is less than 15.6T, not more."),
            ("Optimal has no meaning here.", False, "It has: least loss for a given compute."),
        ],
    ),
    (
        "§3.1.3",
        "GSM8k rose by 24.0 percent in an annealing experiment. For which model, and how?",
        [
            ("The 405B, with better data.", False, "For the 405B the gain was negligible."),
            (
                "The 8B, with the benchmark's training set in the data.",
                True,
                "A side experiment; the real annealing data holds no such sets.",
            ),
            ("All three, by a lower learning rate.", False, "The data made the difference."),
            ("The 70B, by more tokens.", False, "The experiment names the 8B and the 405B."),
        ],
    ),
    (
        "§3.1.1",
        "Which of these numbers is NOT in the paper?",
        [
            (
                "more than 6 times in 30M documents",
                False,
                "It is: the rule of line de-duplication.",
            ),
            ("176 languages", False, "It is: language identification."),
            ("the share of pages each step removes", True, "No removal rate of any step is given."),
            ("50 / 25 / 17 / 8", False, "It is: the data mix of section 3.1.2."),
        ],
    ),
    (
        "ours",
        "Two copies of an article differ in one word. What finds them?",
        [
            ("A hash of the whole text.", False, "One word changes all of it."),
            ("Comparing URLs.", False, "The copy stands on another site."),
            ("MinHash.", True, "Almost all 5-grams are the same, so almost all minima are."),
            ("Counting lines.", False, "It may remove lines of both, and keeps both pages."),
        ],
    ),
    (
        "ours",
        "A signature has k = 100 numbers. How far off is an estimate of J = 0.5, typically?",
        [
            ("0.5 percent", False, "That would take 10,000 numbers."),
            ("0.05", True, "The root of J (1 − J) / k is the root of 0.0025."),
            ("0.25", False, "That is J (1 − J), before dividing and taking the root."),
            ("Not at all: it is exact.", False, "Each number is a coin that falls with chance J."),
        ],
    ),
    (
        "§3.1.1",
        "Why are log files not caught by counting lines?",
        [
            (
                "Every line has its own time or number, so no line is repeated.",
                True,
                "Repeated phrases inside unique lines: that is what n-gram coverage looks for.",
            ),
            ("They are too short.", False, "They are often very long, too."),
            ("They have no lines.", False, "They have nothing else but lines."),
            ("They are in another language.", False, "Error messages are mostly English."),
        ],
    ),
    (
        "§3.1.1",
        "Why does a small model judge the web, when Llama 2 judges better?",
        [
            ("It is more accurate.", False, "It imitates its teacher, with some loss."),
            ("The licence forbids it.", False, "Both models are Meta's own."),
            (
                "It is fast enough for all pages.",
                True,
                "Judged once by the large, learned by the small.",
            ),
            ("Llama 2 cannot read HTML.", False, "It could; it judged cleaned text anyway."),
        ],
    ),
]

QUIZ: list[Question] = [
    Question(prompt, [Option(text, why, correct=right) for text, right, why in choices], section)
    for section, prompt, choices in _QUESTIONS
]
