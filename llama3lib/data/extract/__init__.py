"""HTML to text that is worth learning from (paper section 3.1.1, "text extraction and cleaning").

The paper's own parser is not public. It says what it is tuned for: away with the frame of a page
(menus, footers, notices), keep all of the content, keep the structure of mathematics and code, and
keep the `alt` text of images, because mathematics is often a picture. This one follows these words:
lxml reads the page (`tree`), every element is measured (`measure`), what is not main text is taken
out (`main_text`), and the rest is written line by line (`render`, `formulas`).
"""

from llama3lib.data.extract.markdown import StripMarkdown, strip_markdown
from llama3lib.data.extract.step import Extract, extract_text
from llama3lib.data.extract.tree import MOST_NESTED

__all__ = ["MOST_NESTED", "Extract", "StripMarkdown", "extract_text", "strip_markdown"]
