"""Post-training: from a base model to one that answers (paper section 4).

- `rows`, `dialogs`: a user's JSON lines to dialogs and pairs, every bad row told
- `collate`: dialogs to ids and loss mask together
- `sft`: supervised fine-tuning, by the trainer of `llama3lib.train`
- `lora`, `adapters`: thin matrices beside frozen ones; PEFT's folders
- `reward`, `reliability`: the reward model, and how far to trust it
- `rejection`: K answers to each prompt, of which the best is kept
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
