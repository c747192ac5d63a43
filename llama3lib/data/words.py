"""Words of a text in any script: what filters count and MinHash compares.

Most languages put spaces between words. Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan
do not. There a sign is taken for a word: a Chinese or Japanese character, a Tibetan syllable, a
consonant with the vowels and tone marks around it elsewhere. It needs no dictionary and gives the
same answer before and after an edit somewhere else in the text. Korean has spaces.
"""

import re
import unicodedata

import regex

# what stands without spaces; Line_Break=SA are the letters and vowel signs of South East Asia
_CHARACTER = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}"
_TIBETAN = r"[\p{Tibetan}&&[\p{L}\p{M}]]"
_UNSPACED = rf"[{_CHARACTER}\p{{LB=SA}}{_TIBETAN}]"
# Thai and Lao vowels before the consonant, vowels after it, and Burmese consonants that end a
# syllable belong to the sign; so do stacked consonants, as in Khmer
_SYLLABLE = (
    r"\p{LOE}*\p{LB=SA}(?:\p{InSC=Invisible_Stacker}\p{L}|[\p{M}ะาำๅະາຳ]|[က-အ](?=[\u1039\u103A]))*"
)
_SIGN = rf"(?:{_TIBETAN}+|{_SYLLABLE}|{_UNSPACED}[\p{{M}}ーｰ]*)[^\s\p{{L}}\p{{N}}]*+"
_WORD = regex.compile(rf"{_SIGN}|[^\s{_UNSPACED}]+", regex.V1)
# blocks with such signs: one fast look tells that a text has none
_BLOCKS = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u2e80-\ua4cf\ua9e0-\uaadf"
    "\uf900-\ufaff\uff66-\uff9f\U00011700-\U0001174f\U00016fe0-\U0001b2ff\U00020000-\U0003ffff]"
)
_NO_LETTER = regex.compile(r"[\p{Script=Inherited}\p{InSC=Virama}]")


def is_unspaced(text: str) -> bool:
    """Whether the text holds a sign of a block of scripts without spaces."""
    return not text.isascii() and _BLOCKS.search(text) is not None


def split_words(text: str) -> list[str]:
    """The words in order, with the punctuation that touches them; nothing is lost but spaces."""
    words = text.split()
    if not is_unspaced(text):
        return words
    return [sign for word in words for sign in ((word,) if word.isascii() else _WORD.findall(word))]


def signs_per_word(text: str, words: list[str]) -> int:
    """2 if `words` of a text are mostly single signs, 1 if they are words between spaces.

    Words of Chinese, Japanese and Thai have about two signs (the mean is from 1.5 to 2.5).
    """
    return 2 if len(words) > 2 * len(text.split()) else 1


def count_words(text: str) -> int:
    """How many words a text has, in a script without spaces about: half as many as signs."""
    words = split_words(text)
    return len(words) // signs_per_word(text, words)


def count_letters(word: str) -> int:
    """Letters, vowel signs and other signs, but no accents; a Korean syllable is 2 or 3 letters.

    So that the length of a word means the same in Korean, Hindi and English.
    """
    if word.isascii():
        return len(word)
    signs = unicodedata.normalize("NFD", word)
    return len(signs) - len(_NO_LETTER.findall(signs))
