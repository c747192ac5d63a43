"""Chapter 01: three hints for each exercise: the idea, the structure, nearly the code."""

HINTS: dict[str, tuple[str, str, str]] = {
    "01.1": (
        "RMSNorm asks one question of a row: how large are its numbers typically? "
        "Then it divides by that size. Nothing is subtracted.",
        "Square, average over the last dimension (keep it), add eps, take the root, divide, "
        "multiply by the weight. In half precision do the squares in float32. For the second "
        "part: what does dividing by the size leave of a row like 1000, 1001, 1002?",
        "size = (x.float().pow(2).mean(-1, keepdim=True) + eps).sqrt(), then "
        "(x.float() / size * weight).to(x.dtype). A row that is large everywhere, plus a small "
        "pattern, is flattened: try an offset 200 times the pattern.",
    ),
    "01.2": (
        "A model is a list of matrices. Write the list first, with two numbers for each shape.",
        "One block has wq, wk, wv, wo, then w1, w2, w3, then two norms. Outside the blocks: the "
        "embedding, the last norm, and the output matrix unless it is tied.",
        "queries = n_heads * head_dim and keys = n_kv_heads * head_dim. A block is "
        "2 * dim * queries + 2 * dim * keys + 3 * dim * ffn_dim + 2 * dim. "
        "For is_tied, count args.replace(tie_embeddings=True) and compare.",
    ),
    "01.3": (
        "Turning a pair by an angle is one formula. The two layouts only disagree about who is "
        "whose partner.",
        "Make the table of angles first: one row for each position, one column for each pair. "
        "Then pick firsts and seconds: every other channel, or first half and second half. "
        "Turn, and put both back where they came from.",
        "a, b = x[:, 0::2], x[:, 1::2] or a, b = x.chunk(2, -1); new a is a*cos - b*sin, new b "
        "is a*sin + b*cos. Put back with torch.stack((a, b), -1).flatten(-2), or torch.cat. "
        "The order lists all even channels, then all odd ones.",
    ),
    "01.4": (
        "Do not bring more keys to the queries. Let several queries come to the same key.",
        "Split the query heads into [K, G]: head n belongs to group n // G. Treat G like a "
        "second query dimension. Then mask, softmax over keys, mix. For T < S the mask moves: "
        "query t stands at position S - T + t.",
        "q.unflatten(2, (K, G)), then scores = torch.einsum('btkgh,bskh->bkgts', q, k) * H**-0.5; "
        "mask with torch.ones(T, S, dtype=torch.bool).tril(S - T); mix with "
        "'bkgts,bskh->btkgh' and flatten(2, 3). A broadcast matmul would copy: einsum does not.",
    ),
    "01.5": (
        "A border can leak in three places: through the mask, through the ids of the padding, "
        "and through the label of a document's last token.",
        "The mask is two conditions joined by 'and': same document, not later. In pack, walk "
        "over the documents and grow three lists. In targets, shift by one and look where "
        "neighbours differ in document.",
        "(ids[:, None] == ids[None, :]).tril() is the mask. Padding gets the id "
        "len(documents). In targets start with full_like(tokens, -100) and copy tokens[1:] "
        "where ids[1:] == ids[:-1].",
    ),
    "01.6": (
        "Three things differ between the files: the names, the order of rows in two matrices, "
        "and what is written down when the output is tied.",
        "Write one table of names and use it in both directions. Permute wq with n_heads and wk "
        "with n_kv_heads, and nothing else. Read every field of the config, RoPE's too.",
        "half_to_interleaved(tensor, heads) takes the file's rows to ours, interleaved_to_half "
        "goes back. If tie_word_embeddings is set, output.weight is the embedding. "
        "config['rope_scaling'] is None or a dict for RopeScaling.",
    ),
}
