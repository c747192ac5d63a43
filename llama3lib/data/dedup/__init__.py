"""The three levels of de-duplication (paper section 3.1.1): URLs, documents, lines."""

from llama3lib.data.dedup.lines import DropRepeatedLines
from llama3lib.data.dedup.minhash import DropNearDuplicates, MinHash, lsh_probability
from llama3lib.data.dedup.urls import KeepNewestURL

__all__ = ["DropNearDuplicates", "DropRepeatedLines", "KeepNewestURL", "MinHash", "lsh_probability"]
