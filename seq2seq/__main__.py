"""Run the command line: ``python -m seq2seq``."""

from seq2seq.commands.app import main

if __name__ == "__main__":
    main()
