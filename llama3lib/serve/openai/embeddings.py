"""Vectors of texts, as OpenAI's clients read them: the mean of the last hidden states."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor


def embeddings_body(
    vectors: Sequence[Tensor], *, model: str, num_tokens: int, as_base64: bool
) -> dict[str, Any]:
    """The answer of /v1/embeddings; base64 is of float32, the lowest byte first."""
    data = [
        {"object": "embedding", "index": index, "embedding": _written(vector, as_base64)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _written(vector: Tensor, as_base64: bool) -> str | list[float]:
    numbers = vector.float().numpy().astype("<f4")
    if as_base64:
        return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
    return numbers.tolist()
