"""The lexicon, grammar and sentence patterns behind scripts/make_phrasebook.py."""
