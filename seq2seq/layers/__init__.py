"""Layers of the model; they import torch only.

Shape letters: B batch, S source length, T target length, V vocabulary, E embedding, H recurrent width, M memory width,
A attention width, L layers, K beam, N = B*K; W = width of one layer's packed state (H, or 2H for the LSTM: h then c).
"""
