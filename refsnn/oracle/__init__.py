"""The conformance kit for other implementations."""
