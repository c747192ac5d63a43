"""`torchrun ... -m llama3lib.train RECIPE RUN`: the same as `llama3 train RECIPE RUN`."""

import sys

from llama3lib.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
