"""Chapter 09: three hints for each exercise: the idea, the structure, nearly the code."""

HINTS: dict[str, tuple[str, str, str]] = {
    "09.1": (
        "What does one token leave behind in one layer? And how many tokens have room in the "
        "blocks that were handed out for this text?",
        "One token leaves a key and a value for each key/value head, of head_dim numbers each. "
        "Do that for all layers, and for each slot of each block that was begun.",
        "Blocks: the tokens divided by block_size, rounded up; -(-a // b) rounds up without "
        "floats. Then multiply: 2, n_layers, n_kv_heads, head_dim, blocks, block_size, "
        "bytes_per_value.",
    ),
    "09.2": (
        "A piece of T queries meets start + T keys. Query t of the piece is which position of the "
        "text? Which slots may it see?",
        "First store: the cache has the heads before the tokens, so turn k and v round, and write "
        "them into slots start to start + T - 1. Then attend to the slots that are written, with a "
        "mask of T rows and start + T columns.",
        "keys[:, :, start:end] = k.transpose(1, 2), the same for values. The mask is "
        "torch.ones(T, end, dtype=torch.bool).tril(start). Give it to "
        "F.scaled_dot_product_attention as attn_mask, with q.transpose(1, 2), both caches up to "
        "end, and enable_gqa=True. Turn the result back.",
    ),
    "09.3": (
        "A token is judged by those before it in the order of likelihood. What is their sum, "
        "without the token itself?",
        "Softmax, sort (likeliest first, and stable, so that equal ones stay in index order), a "
        "running sum. Put zeros where the sum of those before is above p, bring the rest back to "
        "their places, divide by the sum. Then the floor, a share of the largest, and divide once "
        "more.",
        "ordered, order = probs.sort(descending=True, stable=True); before = ordered.cumsum(0) - "
        "ordered; zero where before > p; torch.zeros_like(probs).scatter(0, order, ordered) brings "
        "them back. For the floor: zero where probs < min_p * probs.max().",
    ),
    "09.4": (
        "Who else would see the token, if it were written where the table says now? And who has "
        "a block after the call that had none before?",
        "The place in the table is position // block_size. Three cases: the table ends before that "
        "place; the block there has one reader; it has several. After each case go through all "
        "three lists: is the table right, are the readers of each block right, is it free or not?",
        "Table too short: new = free.pop(), append it, readers[new] = 1, return None. One reader: "
        "return None. Several: new = free.pop(), readers[new] = 1, readers[old] -= 1, put new into "
        "the same place of the table, return (old, new).",
    ),
    "09.5": (
        "The row's largest number decides about the scale. Where does the bound come in: before or "
        "after the division by 448? And what then happens to numbers above the bound?",
        "Largest of each row by amount, cut to the bound, and to something tiny from below; by 448 "
        "that is the scale. Divide, cut to -448 and 448, cast. A number is saturated if the bound "
        "cut it, and that can be seen from x alone.",
        "x.abs().amax(-1, keepdim=True).clamp(1e-12, bound) / 448 is the scale; "
        "(x / scale).clamp(-448, 448).to(torch.float8_e4m3fn) is q; saturated compares x.abs() "
        "with bound.",
    ),
    "09.6": (
        "How many tokens of prompts fit into the step beside those of the texts being written? And "
        "once you know the number, who gets them?",
        "Two questions, one after the other. First the number: seconds grows, so halve the range "
        "between 0 and all prompt tokens, and ask for decoding + number. Then hand it out in "
        "order: each prompt takes what it needs until nothing is left. And what if nothing is "
        "being written and the number is 0?",
        "low, high = 0, sum(prompts); while low < high: middle = (low + high + 1) // 2; if "
        "seconds(decoding + middle) <= limit then low = middle, else high = middle - 1. If "
        "decoding is 0 and prompts wait, at least 1. Then for each prompt: take min(prompt, left), "
        "and subtract it from left.",
    ),
    "09.7": (
        "A token may come out in two ways: guessed and kept, or drawn after a guess was refused. "
        "Together they must make p. How much can the first way bring at most?",
        "Go through the guesses with p and q, the two chances of the guess. Kept with chance p / q "
        "(or 1), it brings min(p, q) for each token. What is missing to p is max(p - q, 0): draw "
        "from that when a guess is refused, and stop there. If none is refused, one token more "
        "comes from the target's last row.",
        "For each guess: if torch.rand((), generator=generator) * q[guess] < p[guess], keep it and "
        "go on. Else rest = (p - q).clamp(min=0), and torch.multinomial(rest / rest.sum(), 1, "
        "generator=generator) ends the step. After the loop the same with target_probs[-1].",
    ),
}
