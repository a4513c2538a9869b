"""What a training calls with each epoch's figures, besides writing them to metrics.jsonl."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from refsnn.ops import validate
from refsnn.references import load_object
from refsnn.training.validation import Row

Callback = Callable[[Row], object]


def load_callback(reference: str) -> Callback:
    """Import the function, or the object that can be called, which `module:object` names."""
    found = load_object("callback", reference)
    if not callable(found):
        raise TypeError(f"callback: got {validate.shown(found)}, want a function of an epoch's row")
    return found


def scalars(row: Row, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield a row's numbers by name; those of a group, such as firing_rate, as group.name.

    The number of a class is group.class; a class without images has none.
    """
    for name, value in row.items():
        if isinstance(value, dict):
            yield from scalars(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            known = {str(index): number for index, number in enumerate(value) if number is not None}
            yield from scalars(known, f"{prefix}{name}.")
        else:
            yield prefix + name, value


class TensorBoard:
    """A callback that writes each epoch's figures to files of TensorBoard's in a folder.

    It takes the writer of tensorboardX, or else of PyTorch. ValueError says what to install.
    """

    def __init__(self, folder: Path) -> None:
        self.writer = summary_writer()(str(folder))

    def __call__(self, row: Row) -> None:
        for name, value in scalars(row):
            if name != "epoch":
                self.writer.add_scalar(name.replace(".", "/", 1), value, row["epoch"])
        self.writer.flush()


def summary_writer() -> Any:
    """Return the class that writes TensorBoard's files; ValueError where none is installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError(
                "tensorboard: no package writes its files; pip install 'refsnn[tensorboard]'"
            ) from None
    return SummaryWriter
