"""Naive oracles: the paper's equations as plain loops over Python numbers."""
