"""Translate lines; the same as ``seq2seq translate``."""

import sys

from seq2seq.commands.app import main

if __name__ == "__main__":
    sys.argv.insert(1, "translate")
    main()
