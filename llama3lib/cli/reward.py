"""`llama3 reward`: a reward model from pairs of answers, by the trainer of all."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llama3lib.cli.sft import MODEL, Sft

if TYPE_CHECKING:
    from llama3lib.posttrain.collate import Format
    from llama3lib.posttrain.reward_data import RewardData
    from llama3lib.posttrain.sft import SftConfig
    from llama3lib.train import TrainConfig, Trainer


@dataclass(frozen=True, kw_only=True)
class Reward(Sft):
    """Train a reward model on preferences: DATA has prompt, chosen and rejected in each row.

    Also Alpaca's instruction and input with chosen and rejected; an edited answer ranks first.
    The result, in RUN/model, opens in transformers as LlamaForSequenceClassification.
    """

    name: ClassVar[str] = "reward"
    doing: ClassVar[str] = "a reward model from"

    def _read(self, chat: "Format", length: int, config: "SftConfig") -> "RewardData":
        from llama3lib.posttrain.reward_data import prepare_pairs

        return prepare_pairs(self.data, chat, length, config)

    def _write(self, data: "RewardData", folder: Path, chat: "Format") -> None:
        from llama3lib.posttrain.reward_data import write_pair_shards

        write_pair_shards(data, folder, chat)

    def _recipe(self, config: "SftConfig", args: Any, folder: Path, windows: int) -> "TrainConfig":
        from llama3lib.cli.sft import told_recipe
        from llama3lib.posttrain.reward_data import reward_recipe

        return told_recipe(reward_recipe(config, args, self.path, folder, windows), config, windows)

    def _trainer(
        self,
        recipe: "TrainConfig",
        shards: dict[str, Any],
        folder: Path,
        chat: "Format",
        config: "SftConfig",
    ) -> "Trainer":
        from llama3lib.posttrain.reward_data import REWARD, make_reward_evaluation, rows_of
        from llama3lib.train.config import HELD_OUT

        evaluate = make_reward_evaluation(rows_of(shards[HELD_OUT]) if HELD_OUT in shards else [])
        return self._begun(recipe, shards, folder, REWARD, evaluate)

    def _train(self, trainer: "Trainer", steps: int, chat: "Format", told: dict[str, Any]) -> None:
        from llama3lib.cli.train import fit_and_tell
        from llama3lib.posttrain.reward_folder import save_reward_model

        result = fit_and_tell(trainer, steps)
        if result is None:
            return
        out = trainer.folder / MODEL
        notes = {"made_by": "llama3 reward", "kind": "reward", "from": self.path, "pairs": told}
        notes |= {"step": result.steps, **trainer.evaluation}
        save_reward_model(result.model, out, chat.tokenizer, notes, overwrite=True)
        print(f"written: {out}")
