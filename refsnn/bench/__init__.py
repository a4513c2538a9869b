"""`refsnn bench`: measure training and inference, alone and beside PyTorch."""
