"""An ablation's accuracies and paired differences, from its table.json (refsnn ablation)."""

import json
import sys
from pathlib import Path
from typing import Any

from _style import main, printed
from matplotlib.figure import Figure

from refsnn.experiments.table import draw as draw_table

CLAIM = Path(__file__).with_name("claim.json")  # of `refsnn ablation --preset claim --jobs 2`


def compute(table: str = str(CLAIM)) -> dict[str, Any]:
    """The table that the file holds."""
    try:
        return {"table": json.loads(Path(table).read_text())}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"table: {table} is not valid JSON ({error})") from None


@printed
def draw(data: dict[str, Any]) -> Figure:
    return draw_table(data["table"])


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, compute, draw))
