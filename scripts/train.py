"""Train a model; the same as ``seq2seq train``."""

import sys

from seq2seq.commands.app import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
