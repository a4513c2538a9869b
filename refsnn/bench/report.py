"""Formatting of measurements as plain text."""

from collections.abc import Sequence
from typing import Any

from refsnn.bench.workload import LIBRARIES
from refsnn.output import table

Row = dict[str, Any]
LEFT = ("library", "part", "convolution", "direction", "algorithm", "fastest")
BUSY = 0.5  # load average above which other programs disturb the measurement


def machine_lines(machine: Row) -> str:
    """Return the description of the machine."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    text = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{machine['system']}\n{versions}\n"
        f"matrix product {machine['gemm_gflops']:.0f} GFLOP/s (NumPy, float32), "
        f"copy {machine['copy_gib_s']:.1f} GiB/s (read and written)"
    )
    if machine["load"] > BUSY:
        text += (
            f"\nother programs use the cores (load {machine['load']:.1f} in the last minute): "
            "times mean little, and ratios are given only with --force"
        )
    return text


def comparison(results: Sequence[Row], ratios: Sequence[Row]) -> str:
    """Return the table of the libraries on one workload; ratios are refsnn over the other."""
    first = results[0]
    by_library = {row["library"]: row for row in ratios}
    low, high = first["density_range"]
    title = f"{first['arch']}, {first['phase']}: T = {first['steps']}, batch {first['batch_size']}"
    if first["size"]:
        title += f", {first['size']}x{first['size']} pixels"
    title += f", {first['density']:.3f} spikes per neuron and step"
    if low < high:
        title += f" ({low:.3f} to {high:.3f} by layer)"
    if first["memory"] == "low" and first["phase"] == "train":
        title += ", low memory"
    head = ["library", "images/s", "first step s", "peak MiB", "imports MiB", "threads"]
    if ratios:
        ours = "refsnn" if by_library.keys() <= set(LIBRARIES) else "the paper's network"
        head += [f"{ours} is faster by", "rounds", f"{ours}'s memory is"]
    rows = []
    for row in results:
        cells = [
            row["library"],
            f"{row['images_per_second']:.1f}",
            f"{row['first_step_seconds']:.1f}",
            f"{row['peak_mib']:.0f}",
            f"{row['baseline_mib']:.0f}",
            str(row["threads"]),
        ]
        if ratio := by_library.get(row["library"]):
            low, high = ratio["images_per_second_range"]
            cells += [
                f"{ratio['images_per_second']:.2f}x",
                f"{low:.2f} to {high:.2f}",
                f"{ratio['peak_mib']:.2f}x",
            ]
        rows.append(cells + [""] * (len(head) - len(cells)))
    return f"{title}\n{table(head, rows, LEFT)}"


def workload(results: Sequence[Row], ratios: Sequence[Row]) -> str:
    """Return the comparison, and the tables that show where refsnn's time goes."""
    breakdown = results[0]["breakdown"]
    parts = f"parts of refsnn's step, which takes {1e3 * breakdown['seconds']:.0f} ms with timers"
    tables = [comparison(results, ratios), f"{parts}\n{parts_table(breakdown)}"]
    if breakdown["convolutions"]:
        tables.append(f"{convolutions_table(breakdown)}\n{KEY}")
    return "\n\n".join(tables)


def parts_table(breakdown: Row) -> str:
    """Return the table of the step's parts, as shares of the step and of the machine's peaks."""

    def share(row: Row, name: str) -> str:
        return f"{row[name]:.0%}" if name in row else ""

    def number(row: Row, name: str) -> str:
        return f"{row[name]:.1f}" if name in row else ""

    head = ["part", "ms", "of step", "GFLOP/s", "of matrix product", "GiB/s", "of copy"]
    return table(
        head,
        [
            [
                row["part"],
                f"{1e3 * row['seconds']:.1f}",
                share(row, "share"),
                number(row, "gflops"),
                share(row, "of_gemm_peak"),
                number(row, "gib_s"),
                share(row, "of_copy_peak"),
            ]
            for row in breakdown["parts"]
        ],
        LEFT,
    )


def convolutions_table(breakdown: Row) -> str:
    """Return the table of the convolutions by shape, direction and algorithm."""
    head = ["convolution", "direction", "algorithm", "calls", "density", "ms", "GFLOP/s"]
    return table(
        head,
        [
            [
                row["shape"],
                row["direction"],
                row["choice"],
                str(row["calls"]),
                f"{row['density']:.3f}",
                f"{1e3 * row['seconds']:.1f}",
                f"{row['gflops']:.1f}",
            ]
            for row in breakdown["convolutions"]
        ],
        LEFT,
    )


def choices_table(arch: str, phase: str, rows: Sequence[Row]) -> str:
    """Return the table of the algorithms that were chosen, beside the fastest ones."""
    head = ["convolution", "direction", "density", "algorithm", "ms", "fastest", "its ms", "ratio"]
    cells = [
        [
            row["shape"],
            row["direction"],
            f"{row['density']:.3f}",
            row["choice"],
            f"{1e3 * row['seconds'][row['choice']]:.2f}",
            row["best"],
            f"{1e3 * row['seconds'][row['best']]:.2f}",
            f"{row['ratio']:.2f}",
        ]
        for row in rows
    ]
    return f"{arch}, {phase}: the algorithm of each convolution\n{table(head, cells, LEFT)}"


KEY = """\
convolution: images (T N) x height x width x channels, kernel / stride -> channels; one line for
each algorithm that was chosen. density: fraction of the input that is not 0. GFLOP/s: as if all
products were computed; event, lookup and winograd leave out most, so they may exceed the peak."""


def scaling_table(row: Row) -> str:
    """Return the table of time and memory, and their distance from a straight line.

    Against threads, it has how many times as fast as with one they are instead.
    """
    name = {"steps": "T", "batch_size": "batch", "threads": "threads"}
    fixed = ", ".join(f"{name[key]} = {value}" for key, value in row["fixed"].items())
    body = [
        [str(value), f"{seconds:.3f}", f"{mib:.0f}"]
        for value, seconds, mib in zip(row["values"], row["seconds"], row["peak_mib"], strict=True)
    ]
    title, head = f"{row['arch']}, {row['phase']}, {fixed}", ["s per step", "peak MiB"]
    if row["against"] == "threads":
        for cells, seconds in zip(body, row["seconds"], strict=True):
            cells.append(f"{row['seconds'][0] / seconds:.2f}x")
        head.append("one thread's speed")
        return f"{title}\n{table([name[row['against']], *head], body, LEFT)}"
    return (
        f"{title}\n{table([name[row['against']], *head], body, LEFT)}\n"
        f"at most {row['seconds_deviation_percent']:.0f} % (time) and "
        f"{row['peak_mib_deviation_percent']:.0f} % (memory) off a straight line"
    )
