"""A small web of our own making: pages whose every flaw is known, to test a pipeline on.

- `prose`, `languages`: what the pages say
- `pages`: how sites wrap it in HTML
- `web`: which pages there are, with what planted in them: the truth
- `crawl`: serve it on this machine and fetch it into a web archive, as a crawler would
"""

from llama3lib.worlds.miniweb.crawl import crawl, serve
from llama3lib.worlds.miniweb.web import MiniWeb, Page, make_web

__all__ = ["MiniWeb", "Page", "crawl", "make_web", "serve"]
