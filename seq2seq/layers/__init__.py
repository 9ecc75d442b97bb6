"""Layers of the model. They import only torch.

Shape letters: B sentences, S source length, T target length, R target tokens without padding, V target vocabulary,
E embedding width, H decoder width, M encoder width (both directions), A attention width, L layers, K hypotheses of a beam,
N = B*K rows, W width of a layer's packed state (H, or 2H for the LSTM: h, then c). Lengths include the end of sentence.
In cells and in the fast twins H is the width of one layer and direction, D the number of directions, G gates per unit, and
I the input width.
"""
