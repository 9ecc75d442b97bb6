"""Score translations; the same as ``seq2seq evaluate``."""

import sys

from seq2seq.commands.app import main

if __name__ == "__main__":
    sys.argv.insert(1, "evaluate")
    main()
