"""Small helpers that every layer may use.

- `require`: bad input gets one kind of sentence
- `files`: write a file or a folder whole or not at all; digests
- `seed`: one seed for every source of randomness; one thread
- `device`: choose where and in which number format to compute, and say why
- `processes`: children that do not run the main file again, and end with their parent
- `strict_json`: lines that any parser reads
- `settings`: TOML tables into dataclasses, nothing unknown
- `logging`: loggers that stay silent until the program asks

Import the modules, not this package: `files` and `logging` come without torch.
"""
