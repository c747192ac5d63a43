"""Text for training: from web pages to batches of tokens (paper section 3.1).

In the order in which data flows:

- `document`, `funnel`: documents, steps, and the account of what falls where
- `readers`, `warc`, `encoding`: files to documents
- `sandbox`, `extract`: HTML to text, at arm's length
- `language`, `filters`, `pii`, `dedup`, `quality`: what stays and what goes
- `mixture`: how much of which source
- `tokens`, `packing`, `loader`: text to batches
- `recipe`, `shards`, `runner`, `cluster`: the whole as a resumable run, on one core or on many

What needs torch (`quality`, `recipe`, `loader`) is imported by its module's name.
"""

from llama3lib.data.document import CorpusStep, Document, DocumentStep, Drop, Dropped
from llama3lib.data.funnel import Funnel, run, write_report

__all__ = [
    "CorpusStep",
    "Document",
    "DocumentStep",
    "Drop",
    "Dropped",
    "Funnel",
    "run",
    "write_report",
]
