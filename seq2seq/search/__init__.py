"""Search over a step function. Imports torch only and knows no model.

Shape letters: R sentences still searched, K slots of the beam, N = R*K rows, V vocabulary, S source length.
"""
