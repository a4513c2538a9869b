"""The conformance kit for other implementations, and a network's way out to them and back."""
