"""Chapter 03: three hints for each exercise: the idea, the structure, nearly the code."""

HINTS: dict[str, tuple[str, str, str]] = {
    "03.1": (
        "One rule gives all costs. And what number is the same for half the budget and for twice "
        "the budget, but for its sign?",
        "First a dict: name to 6 times parameters times tokens. Then the name with the least "
        "distance, where distance is the absolute value of log(cost / budget).",
        "costs = {name: 6 * n * d for name, (n, d) in models.items()}; min(costs, key=lambda name: "
        "abs(math.log(costs[name] / budget))).",
    ),
    "03.2": (
        "The sizes lie evenly on a logarithmic axis, and that is where the curve is a parabola. "
        "For the interval: if the same runs were made again with other luck, which best sizes "
        "would come out?",
        "Fit loss over ln size, and take the vertex. Then, `resamples` times: the fitted curve, "
        "plus noise like what the fit left over, fitted anew. The vertices of these fits are the "
        "draws; 95 % of them lie between the two ends.",
        "a, b, c = np.polyfit(np.log(sizes), losses, 2); best = np.exp(-b / (2 * a)). fitted = "
        "np.polyval((a, b, c), np.log(sizes)); left = losses - fitted; in each draw fit fitted + "
        "rng.choice(left, len(left)), with rng = np.random.default_rng(seed) made once. Ends: "
        "np.percentile(draws, [2.5, 97.5]).",
    ),
    "03.3": (
        "The law gives tokens; the parameters are what is left of the budget. In logarithms it is "
        "a straight line, which is easily turned round. And which numbers are printed as 0.53?",
        "tokens = coefficient · flops ** exponent, parameters = flops / (6 · tokens). Solve the "
        "first for the exponent with logarithms. For the box: each printed number may be off by "
        "half a unit of its last place, up or down, and each of the two by itself.",
        "exponent: math.log(tokens / coefficient) / math.log(flops). box: half = 0.5 * 10 ** "
        "-digits; the law grows with both numbers, so the fewest tokens belong to exponent - half "
        "and coefficient - half, the most to the two plus half.",
    ),
    "03.4": (
        "Bad training raises the whole curve of a budget, so the curve may look fine by itself. "
        "Look at the lowest losses of all budgets together: which one is out of line?",
        "Lowest point of each budget first. Then leave out each budget in turn, fit a power law to "
        "the lowest losses of the others, and measure how far they are off. Where is that least? "
        "Without that budget fit the best sizes. (A law without a floor is good enough over so "
        "short a range.)",
        "curves = {c: fit_parabola(sizes, losses)} for each c of by_budget(runs). For each c: law "
        "= fit_line(others, lowest of others), and the sum of squares of log(lowest / "
        "law.predict). spoilt = the c with the least sum. The exponent is fit_line(budgets, best "
        "sizes).exponent over the others.",
    ),
    "03.5": (
        "Both models end with the same loss. One has paid more for its training, the other pays "
        "more for each token served. When are they even?",
        "The law gives the loss of the small one. Take away the floor and the part that the other "
        "one's size leaves: what remains tells its tokens (and if nothing remains, it never gets "
        "there). Difference of the trainings, by difference of the costs of one served token. Then "
        "the special cases: ahead from the start; and never, if the other one is the smaller one.",
        "room = law.predict(*small) - law.E - law.A / large ** law.alpha; tokens = (law.B / room) "
        "** (1 / law.beta) if room > 0. ahead = 6 * small[0] * small[1] - 6 * large * tokens; "
        "saved = 2 * (large - small[0]). ahead / saved if both are above 0. The library's "
        "tokens_for, life and break_even do the same.",
    ),
    "03.6": (
        "With both axes logarithmic the lowest losses bend, and a ruler misses the bend. What does "
        "the loss go to, if compute has no end? And for the interval: the same as in 03.2, but all "
        "the way to the end.",
        "Lowest point of each budget; then a law with three unknowns: floor + coefficient · "
        "flops ** exponent. For each floor the rest is a straight line in logarithms; take the "
        "floor with which the points lie best on it. For the interval: noise on the runs, new "
        "parabolas, new law, many times. What five runs leave over a parabola is too small: "
        "divide its squares by 5 - 3, not by 5.",
        "for floor in np.linspace(0, least, 300, endpoint=False): a line through np.log(lowest - "
        "floor) over np.log(budgets), its squared misses in the loss itself; keep the best. Draws: "
        "fitted + rng.normal(0, sqrt(left @ left / 2), 5) for each parabola, then all of it again. "
        "The middle plus and minus 2.2 standard deviations of the draws will do.",
    ),
}
