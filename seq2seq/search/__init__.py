"""Search over a step function. Imports torch only and knows no model.

Shape letters: B sentences still searched, K slots of the beam, N = B*K rows, V vocabulary, S source length.
"""
