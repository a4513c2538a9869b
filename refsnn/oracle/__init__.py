"""Test vectors, comparison and diagnosis of other implementations."""
