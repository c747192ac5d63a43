"""Chapter 05: three hints for each exercise: the idea, the structure, nearly the code."""

HINTS: dict[str, tuple[str, str, str]] = {
    "05.1": (
        "Three parts, one after the other: a straight line up, half a wave down, and then nothing "
        "changes any more.",
        "Before `warmup`: the peak times the share of the warm-up that is done. After it: how much "
        "of the way from `warmup` to `total` is done, from 0 to 1 and never more? Half a cosine "
        "turns this into a height from 1 to 0, and the height lies between `minimum` and `peak`.",
        "way = min(1, (step - warmup) / (total - warmup)); height = 0.5 * (1 + math.cos(math.pi * "
        "way)); minimum + (peak - minimum) * height.",
    ),
    "05.2": (
        "Tokens divided by tokens a step gives steps. M is a million, with six zeros.",
        "First: tokens of the first batch size, by its batch. Second: those steps, by the steps of "
        "the warm-up, as a share from 0 to 1. Third: tokens of the annealing, by the last batch. "
        "It need not come out even.",
        "252e6 / 4e6, then that number / 8000, and 40e6 / 16e6. Let Python do it.",
    ),
    "05.3": (
        "The batch has one number of targets that count. Every part is divided by this number, "
        "whatever its own size is.",
        "First go over all targets, and count those that are not -100. Then go over the parts: the "
        "sum of the losses of each, divided by that count.",
        "valid = sum((t != -100).sum() for t in targets_parts), then F.cross_entropy(l.flatten(0, "
        "1), t.flatten(), reduction='sum') / valid for each pair. -100 is ignored by itself.",
    ),
    "05.4": (
        "Two losses are drawn. A bug in the data parts them; a bug in the loop moves both.",
        "Sort them first. Which one is good on the training text only? Which two are too good to "
        "be true, and which of them has to learn something before it is? Which ones are worse than "
        "the healthy run: one that turns up, one that is flat from early on, one that is flat from "
        "late on?",
        "Too good at once: an answer that stands in the question. Too good after a while: an "
        "answer that stands one place ahead. Flat from a round number of steps on: look at the "
        "schedule. Flat near 3 nats: it jumps over every valley. Up again: what adds up?",
    ),
    "05.5": (
        "A little longer each time, and never without short strings. The last stage needs the most "
        "practice: its length is what is measured.",
        "Two or three stages up to 512 use the budget of 240 steps. About a third of each batch "
        "stays short. The section before has shown what a larger base does.",
        "stages=[(128, ...), (256, ...), (512, ...)] with half of the steps for the last one, "
        "short_share near 0.3, theta None or the paper's 500_000.",
    ),
    "05.6": (
        "Train with it, and see. Everything but the data set must stay the same.",
        "One annealing for each name, each with the same share of new data beside the default. "
        "Then sort the names by one of the two losses. Which one tells what you want to know?",
        "losses = {n: anneal({'default': 0.7, n: 0.3})['target'] for n in names}, then "
        "sorted(names, key=losses.get).",
    ),
    "05.7": (
        "The house run has little more than a hundred steps. Is a step over so many bytes the best "
        "use of the budget? And is this the best size for so short a run?",
        "First compute what a byte costs; then batch and length give the number of steps. A model "
        "with half the width costs less than half: it sees more text. (Section 3.2.1 of the paper "
        "asks this very question.) Then change one thing at a time: size, batch, peak, warm-up.",
        "per_byte = flops_per_token(args, length).training; steps = int(budget / (per_byte * batch "
        "* length)). Try args with dim below 48 and a batch below 8, a peak near 1e-2, a tenth of "
        "the steps as warm-up, and Phase(name='all', steps=steps, batch_size=..., length=...).",
    ),
}
