"""`llama3 export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from llama3lib.utils.require import require


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a Hugging Face folder: of a checkpoint of a training run, or of a model.

    A model may be stored in fewer bits; such a folder only this library reads.
    """

    path: Annotated[Positional[str], arg(metavar="PATH")]
    """Folder of a run, or a model: a checkpoint folder or a bundled name."""
    out: Annotated[Positional[str], arg(metavar="FOLDER")]
    """A new folder."""
    step: Annotated[int | None, arg(metavar="INT")] = None
    """Which checkpoint of a run; the last one if left out."""
    average: Annotated[str | None, arg(metavar="PHASE")] = None
    """Instead: the mean of the weights kept in this phase."""
    quantize: Literal["fp8", "int8", "int8-dynamic", "int4"] | None = None
    """Store a model's weights in fewer bits: fp8 as in the paper; the others for a CPU."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        if Path(self.path, "checkpoints").is_dir():
            self._run()
        else:
            self._model()
        print(f"written: {self.out}")
        return 0

    def _run(self) -> None:
        from llama3lib.train.export import export

        allowed = "export the run first, and then the folder that it gives"
        require(self.quantize is None, "quantize", self.quantize, allowed)
        export(self.path, self.out, step=self.step, phase=self.average)

    def _model(self) -> None:
        from llama3lib.checkpoint import load_model, load_tokenizer, save_hf
        from llama3lib.quant import quantize_model

        for name in ("step", "average"):
            value = getattr(self, name)
            require(value is None, name, value, f"{self.path} is no run: it has no checkpoints")
        tokenizer = load_tokenizer(self.path)
        model = load_model(self.path)
        whole = sum(p.numel() * p.element_size() for p in model.parameters())
        if self.quantize is not None:
            model = quantize_model(model, self.quantize)
        save_hf(model, self.out, tokenizer=tokenizer)
        size = sum(file.stat().st_size for file in Path(self.out).glob("*.safetensors"))
        print(f"weights: {whole:,} bytes in memory, {size:,} in the folder")
