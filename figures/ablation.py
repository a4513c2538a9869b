"""An ablation's accuracies and paired differences, from its table.json (refsnn ablation)."""

import sys
from pathlib import Path
from typing import Any

from _style import main, printed
from matplotlib.figure import Figure

from refsnn.experiments.table import draw as draw_table
from refsnn.experiments.table import read_table

CLAIM = Path(__file__).with_name("claim.json")  # from `refsnn ablation --preset claim --jobs 2`


def compute(table: str = str(CLAIM)) -> dict[str, Any]:
    """Read the table from a file."""
    return {"table": read_table(Path(table))}


@printed
def draw(data: dict[str, Any]) -> Figure:
    return draw_table(data["table"])


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, compute, draw))
