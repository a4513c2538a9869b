"""Options that several of the oracle's commands have."""

from typing import Any


def add_as(parser: Any) -> None:
    """Add the option --as."""
    parser.add_argument(
        "--as",
        dest="declared",
        nargs="+",
        action="extend",
        default=[],
        metavar="WHAT",
        help="what the implementation is meant to compute, in place of the paper's conventions: a "
        "profile (paper, authors, spikingjelly, snntorch, norse, …), a TOML file of lines "
        "name = value, or name=value; later ones override earlier ones, and all what the "
        "implementation declares itself. refsnn diagnose --help lists the conventions; "
        "surrogate=MODULE:FUNCTION or surrogate=FILE (.csv or .npy, columns x and h) is a slope of "
        "your own, a function of an array x = u_pre - v_th",
    )
