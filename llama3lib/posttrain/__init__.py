"""Post-training: from a base model to one that answers (paper section 4).

- `rows`, `dialogs`: a user's JSON lines to dialogs and pairs, every bad row told
- `collate`: dialogs to ids and loss mask together
- `sft`: supervised fine-tuning, by the trainer of `llama3lib.train`
- `lora`, `adapters`: thin matrices beside frozen ones; PEFT's folders
- `reward`, `reliability`: the reward model, and how far to trust it
- `reward_data`, `reward_folder`: pairs to rows for the trainer; the result as a folder
- `rejection`: K answers to each prompt, of which the best is kept
- `data_quality`: good by either opinion, and each thing said once
- `distill`, `dpo`: losses for logits of a larger model, and for pairs without a reward model
"""

from llama3lib.utils.lazy import lazy_names

__all__ = ["Dialog", "Pair", "RowAccount", "read_dialogs", "read_pairs"]

# torch takes seconds to import: who only reads rows shall not wait
__getattr__ = lazy_names(
    __name__,
    {
        "dialogs": ("Dialog", "Pair", "read_dialogs", "read_pairs"),
        "rows": ("RowAccount",),
    },
)
