"""Experiments: tables of many runs (ablations) and measurements of gradients."""
