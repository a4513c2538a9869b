"""`refsnn bench`: what a step of training and of inference costs, and what it costs elsewhere."""
