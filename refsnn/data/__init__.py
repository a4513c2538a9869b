"""Data sets: downloading, reading and checking them, and making batches."""

from refsnn.data.dataset import Dataset, Split
from refsnn.data.load import DATASETS, Options, load, load_images
from refsnn.data.loader import Batch, Loader, in_order

__all__ = [
    "DATASETS",
    "Batch",
    "Dataset",
    "Loader",
    "Options",
    "Split",
    "in_order",
    "load",
    "load_images",
]
