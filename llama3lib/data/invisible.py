"""Signs without a width go, but where a script or an emoji is wrong without them.

Pages are full of soft hyphens and zero-width spaces that only tell a browser where it may break a
line; for a tokenizer each makes another word. Persian and the scripts of India need joiners, Thai
and its neighbours part words by zero-width spaces, and lines with Hebrew or Arabic need their
marks of direction.
"""

import re

# Arabic and its kin, the scripts of India and those that come from them, Mongolian, Adlam
_JOINING = (
    r"\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\u1a20-\u1b7f\u1cd0-\u1cff\ua800-\ua8ff"
    r"\ua980-\ua9df\uaa60-\uaa7f\ufb50-\ufdff\ufe70-\ufefc\U00011000-\U00011fff\U0001e900-\U0001e95f"
)
_UNSPACED = r"\u0e00-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\uaa60-\uaadf"
_PICTURES = r"\u00a9\u00ae\u203c-\u3299\ufe0f\U0001f000-\U0001faff"
_RIGHT_TO_LEFT = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U0001efff]")
_DIRECTION = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_TAGS = r"[\U000e0020-\U000e007f]"
_INVISIBLE = re.compile(
    rf"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\u061c\U000e0001]|{_TAGS}"
)
_NOWHERE_NEEDED = re.compile(
    r"[\u00ad\u2060-\u2064\u206a-\u206f\ufeff\U000e0001]"
    rf"|(?<![{_UNSPACED}])\u200b+|\u200b+(?![{_UNSPACED}\u200b])"
    rf"|(?<![{_JOINING}])\u200c+(?![{_JOINING}\u200c])"
    rf"|(?<![{_JOINING}])\u200d+(?![{_JOINING}{_PICTURES}\u200d])"
    rf"|(?<![{_JOINING}{_PICTURES}])\u200d+(?![{_JOINING}\u200d])"
    rf"|(?<!\U0001f3f4)(?<!{_TAGS}){_TAGS}+"  # those of flags, as Scotland's, spell its code
)
_ANY_DIRECTION = re.compile(f"[{_DIRECTION}]")


def drop_invisible(text: str) -> str:
    """The text without signs that nobody sees and nothing needs."""
    if not _INVISIBLE.search(text):
        return text
    text = _NOWHERE_NEEDED.sub("", text)
    lines = text.split("\n")
    return "\n".join(
        line if _RIGHT_TO_LEFT.search(line) else _ANY_DIRECTION.sub("", line) for line in lines
    )
