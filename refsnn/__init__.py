"""Spiking ResNets trained by hand-derived BPTT with shortcut back-propagation."""

__version__ = "0.1.0"
