"""Search over a step function. It imports only torch and does not depend on a model.

Shape letters as in ``seq2seq.layers``: B sentences, here those whose search has not ended, S source length, V target
vocabulary, K hypotheses (slots) of a beam, N = B*K rows. C is the number of candidates per slot, t the number of ids so far.
"""
