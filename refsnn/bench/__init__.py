"""Benchmarks of training and inference, alone and beside PyTorch: `refsnn bench`."""
