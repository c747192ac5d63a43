"""The `llama3` command: `main`, and one file a command with its options and what it does.

Options are dataclasses; a command hands them on whole. Only the standard library, tyro and
packages that import lazily stand at the top of these files, so that `--help` waits for nothing.
"""
