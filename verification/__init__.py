"""The argument that the mathematics is right; run it as `python -m verification`."""
