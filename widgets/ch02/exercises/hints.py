"""Chapter 02: three hints for each exercise: the idea, the structure, nearly the code."""

HINTS: dict[str, tuple[str, str, str]] = {
    "02.1": (
        "A line that many pages have says nothing about any of them. Count first, remove after.",
        "One pass over all documents counts every line, each time it stands anywhere. A second "
        "pass keeps the lines whose count is not above the limit. 'More than six' keeps six.",
        "counts = Counter(line for document in documents for line in document), then "
        "[[line for line in document if counts[line] <= most] for document in documents].",
    ),
    "02.2": (
        "Shuffle all numbers, and look who comes first. Two sets agree on the first one exactly "
        "as often as they overlap.",
        "A shuffle is x -> (a x + b) mod p. For each pair (a, b) take the least value over the "
        "set. Signatures are compared place by place, never as sets.",
        "[min((a * x + b) % p for x in shingles) for a, b in zip(factors, offsets)] and "
        "sum(s == t for s, t in zip(one, other)) / len(one).",
    ),
    "02.3": (
        "One band must agree in all of its rows; any one of the bands will do.",
        "The chance is 1 - (1 - J^rows)^bands. More rows make the curve steeper and move it to the "
        "right, so take the most rows that still reach the recall. How many bands fit?",
        "for rows from numbers down to 1: bands = numbers // rows; if "
        "1 - (1 - similarity**rows)**bands >= recall: return bands, rows.",
    ),
    "02.4": (
        "A merge changes only the words that hold the pair. Why count all the others again?",
        "Keep three things: the pieces of each word, the count of each pair, and for each pair "
        "the words that hold it. After a merge take the old pairs of those words out of the "
        "counts, and put the new ones in.",
        "best = min(counts, key=lambda p: (-counts[p], p)). For each word in where[best]: "
        "subtract its pairs, join the pieces, add its pairs. Drop pairs whose count is 0.",
    ),
    "02.5": (
        "Words and word pairs tell good text from bad, if you let a linear model weigh them.",
        "Hash each word and pair into one of some thousand bins, average, one weight for each bin, "
        "a sigmoid. For `harmed`: which kind of good page loses the largest share below 0.5?",
        "train_classifier(texts, labels) does the first part; a home-made one with Counter and "
        "log-odds does it too. Then group the pages by kind and compare shares of scores < 0.5.",
    ),
    "02.6": (
        "The best mix is hardly ever one of those you tried. Five runs are points of a surface.",
        "For each held-out set fit loss = floor + exp(sum of weight x share) to the runs. Then "
        "look for the least mean of these laws among all mixes. Keep every share at 0.05 or more.",
        "laws = [fit_mix_law(mixes, [row[name] for row in losses]) for name in losses[0]], then "
        "llama3lib.data.mixture.best_mix(laws), or a double loop over shares in steps of 0.05.",
    ),
    "02.7": (
        "Look at what our recipe leaves: which kind of junk has good words and good lines, but no "
        "sense?",
        "The mini-web is yours to make, as often as you like, with the truth beside it. Train a "
        "classifier on another seed; word pairs see what single words cannot.",
        "run(documents, web_recipe(...).steps), then drop what train_classifier, trained on "
        "make_web(seed=...) pages, scores below 0.5.",
    ),
}
