"""`llama3 generate`."""

from dataclasses import dataclass, field

from tyro.conf import OmitArgPrefixes, UseAppendAction

from llama3lib import inference
from llama3lib.cli.options import ModelOptions, Sampling, text_or_stdin


@dataclass(frozen=True, kw_only=True)
class Generate(ModelOptions):
    """Continue a text; the answer appears as it is made."""

    prompt: str
    """Text to continue; "-" reads it from standard input."""
    sampling: OmitArgPrefixes[UseAppendAction[Sampling]] = field(default_factory=Sampling)
    echo: bool = False
    """Print the prompt too."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        params = self.sampling.checked()  # before a large model is read
        prompt = text_or_stdin(self.prompt)
        model, tokenizer = self.load()
        pieces = inference.generate(model, tokenizer, prompt, params)
        if self.echo:
            print(prompt, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
        return 0
