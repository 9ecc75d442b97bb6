"""Run the command line: ``python -m seq2seq`` and the script ``seq2seq``."""

from seq2seq.commands.process import prepare_process

prepare_process()  # before the imports of the commands, which take longer

from seq2seq.commands.app import main  # noqa: E402

if __name__ == "__main__":
    main()
