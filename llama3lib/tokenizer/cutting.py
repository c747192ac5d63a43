"""Where a text is cut before its words are merged, besides the vocabulary's own pattern."""

import re
from collections.abc import Iterator, Sequence

import regex

from llama3lib.tokenizer.bpe import GPT2_PATTERN, LLAMA3_PATTERN

# tiktoken's regular expressions run out of stack on very long runs, so long text is cut where
# Meta's code cuts it: every 400,000 characters, and inside runs of over 25,000 characters that
# are all white space or all not
_CHUNK = 400_000
LONGEST_RUN = 25_000
"""Texts of up to so many characters are never cut."""
_SPACES = re.compile(r"\s*")
_OTHERS = re.compile(r"\S*")
_LONG_RUNS = re.compile(rf"\s{{1,{LONGEST_RUN}}}|\S{{1,{LONGEST_RUN}}}")


def words_pattern(pattern: str) -> str:
    """The pattern, and what it leaves out as words of their own: no letter of a text is lost."""
    if pattern in (LLAMA3_PATTERN, GPT2_PATTERN):
        return pattern  # these leave out nothing
    return rf"{pattern}|(?:(?!{pattern})[\s\S])+"


def cut_apart(text: str, cuts: Sequence[regex.Pattern]) -> Iterator[str]:
    """What each of the patterns in turn makes of a text: matches, and what lies between them."""
    if not cuts:
        yield text
        return
    start = 0
    for found in cuts[0].finditer(text):
        if start < found.start():
            yield from cut_apart(text[start : found.start()], cuts[1:])
        if found.start() < found.end():
            yield from cut_apart(found[0], cuts[1:])
        start = found.end()
    if start < len(text):
        yield from cut_apart(text[start:], cuts[1:])


def short_pieces(text: str) -> Iterator[str]:
    """Cut a long text as Meta's code does. Text without very long runs is cut in chunks only."""
    if len(text) <= LONGEST_RUN:
        yield text
        return
    for start in range(0, len(text), _CHUNK):
        chunk = text[start : start + _CHUNK]
        if _has_long_run(chunk):
            yield from _split_long_runs(chunk)
        else:
            yield chunk


def _has_long_run(chunk: str) -> bool:
    # a run of over 25,000 characters covers two neighbouring probes: follow the run from each
    step = LONGEST_RUN // 2
    for probe in range(0, len(chunk) - step, step):
        kind = _SPACES if chunk[probe].isspace() else _OTHERS
        if kind.match(chunk, probe).end() > probe + step:
            return True
    return False


def _split_long_runs(chunk: str) -> Iterator[str]:
    """Cut only inside runs of over 25,000, leaving everything between the cuts in one piece."""
    start, previous_end, previous_space = 0, 0, None
    for run in _LONG_RUNS.finditer(chunk):
        space = chunk[run.start()].isspace()
        if space == previous_space and run.start() == previous_end:
            yield chunk[start : run.start()]
            start = run.start()
        previous_end, previous_space = run.end(), space
    yield chunk[start:]
