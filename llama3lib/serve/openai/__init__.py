"""OpenAI's HTTP interface: what comes in, what goes out, and what is refused.

`types` (schema) → `prompts` (limits, ids, settings) → the engine → `answer` with `completions` or
`chat` (bodies and events). `tools` tells functions to the model; `errors` are the refusals.
"""
