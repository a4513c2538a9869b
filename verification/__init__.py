"""Verification of the mathematics against independent computations: `python -m verification`."""
