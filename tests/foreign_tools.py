"""A small vocabulary as others make them, in a folder as transformers writes it."""

import functools

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "[TOOL_CALLS]")
WORDS = ["the user and the assistant said hello there", "a system of 12 functions: {name}"] * 9
_LEVEL = functools.partial(pre_tokenizers.ByteLevel, add_prefix_space=False)
_SPLIT = functools.partial(pre_tokenizers.Split, behavior="isolated")
CUTS = {
    "digits": lambda: [pre_tokenizers.Digits(individual_digits=True), _LEVEL(use_regex=True)],
    "many": lambda: [
        *(_SPLIT(Regex(p)) for p in (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+")),
        pre_tokenizers.Digits(individual_digits=True),
        _LEVEL(use_regex=False),
    ],
    "letters": lambda: [_SPLIT(Regex(r"\s?\p{L}+")), _LEVEL(use_regex=False)],
}


def write_folder(folder, *, cuts="digits", template=None, texts=WORDS, begins=False, **names):
    """Write it; returns transformers' own tokenizer."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(CUTS[cuts]())
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>"],  # it comes first, so ids are not ranks
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    made.add_special_tokens([AddedToken("<|turn|>", special=True, normalized=False, rstrip=True)])
    made.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    if begins:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
        )
    names = {"bos_token": "<s>", "eos_token": "<|im_end|>"} | names
    fast = PreTrainedTokenizerFast(tokenizer_object=made, **names)
    fast.chat_template = template
    fast.save_pretrained(folder)
    return fast
