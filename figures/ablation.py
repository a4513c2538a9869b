"""An ablation's accuracies and paired differences, from its table.json (refsnn ablation)."""

import sys
from pathlib import Path
from typing import Any

from _style import main, printed
from matplotlib.figure import Figure

from refsnn.experiments.table import draw as draw_table
from refsnn.files.documents import read_json
from refsnn.files.schema import Rules, record

CLAIM = Path(__file__).with_name("claim.json")  # of `refsnn ablation --preset claim --jobs 2`


TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
SHARE: Rules = {"type": "number", "minimum": -1, "maximum": 1}  # of accuracy, or of a difference
MAYBE = SHARE | {"type": ["number", "null"]}
METHOD = record({
    "mean": MAYBE, "std": MAYBE, "accuracy": {"type": "object", "additionalProperties": SHARE},
})  # fmt: skip
DIFFERENCE = record({"mean": MAYBE, "low": MAYBE, "high": MAYBE})
ROW = record({
    "arch": TEXT, "depth": WHOLE, "steps": WHOLE, "settings": {"type": "object"}, "chance": MAYBE,
    "methods": {"type": "object", "additionalProperties": METHOD},
    "differences": {"type": "object", "additionalProperties": DIFFERENCE},
})  # fmt: skip
#: what is drawn of table.json
TABLE = record({"rows": {"type": "array", "items": ROW}})


def compute(table: str = str(CLAIM)) -> dict[str, Any]:
    """Read the table that the file holds; ValueError names the field that is none's."""
    return {"table": read_json(Path(table), TABLE)}


@printed
def draw(data: dict[str, Any]) -> Figure:
    return draw_table(data["table"])


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, compute, draw))
