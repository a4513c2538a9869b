"""The command `refsnn data`: list, download and check data sets."""

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

from refsnn.data.load import DATASETS, Options, inside

#: name -> description, and the files that it needs in the data folder
ABOUT = {
    "digits": "1,797 handwritten digits of 8x8 pixels; in the package",
    "moving-digits": "the digits moving before an event camera; in the package",
    "cifar10": "CIFAR-10; cifar-10-batches-bin or -py",
    "cifar10-part": "the training files and images of CIFAR-10 that are there",
    "cifar100": "CIFAR-100; cifar-100-binary or -python",
    "cifar100-part": "the images of CIFAR-100 that are there",
    "imagefolder": "JPEG and PNG files; train/CLASS and val/CLASS in the data folder itself",
    "cifar10dvs": "CIFAR10-DVS, as .aedat, .mat or .npz; ten class folders, in cifar10-dvs",
    "nmnist": "N-MNIST; Train/0 ... 9 and Test/0 ... 9, in nmnist",
}


def add_options(parser: Any) -> None:
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    show = actions.add_parser("list", help="list the data sets and the files that they need")
    show.set_defaults(run=run_list)
    fetch = actions.add_parser(
        "fetch",
        help="download, check and unpack a data set",
        description="Download a data set, or continue a download that broke off, compare its "
        "checksum with the published one, and unpack it.",
    )
    fetch.add_argument("name", metavar="NAME", help="cifar10 or cifar100")
    fetch.add_argument("--url", help="download the same archive from this address")
    fetch.add_argument("--quiet", action="store_true", help="no progress bar")
    check = actions.add_parser(
        "check",
        help="read every file of a data set once, and list those that can't be read",
        description="Read every picture or recording once, before a long training. The exit code "
        "is 1 if some can't be read; refsnn train --skip-unreadable leaves them out.",
    )
    check.add_argument(
        "what",
        metavar="NAME|FOLDER|FILE.npz",
        help="name of a data set, a folder of class folders, or a file of arrays",
    )
    check.add_argument(
        "--any-range",
        action="store_true",
        help="allow training and test images in a .npz file of different units or kinds of number",
    )
    check.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float32",
        help="precision of the training that a .npz file is for (default: float32)",
    )
    check.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    for action in (show, fetch, check):
        action.add_argument(
            "--data-dir",
            type=Path,
            metavar="DIR",
            help="folder of the data sets (default: $REFSNN_DATA, or data in the cache folder)",
        )
    fetch.set_defaults(run=run_fetch)
    check.set_defaults(run=run_check)


def run_list(arguments: argparse.Namespace) -> int:
    from refsnn.data.fetch import SOURCES, default_data_dir

    folder = arguments.data_dir or default_data_dir()
    width = max(map(len, DATASETS))
    for name in DATASETS:
        note = f" (refsnn data fetch {name})" if name in SOURCES else ""
        here = "here" if present(name, folder) else "-"
        print(f"{name:<{width}}  {here:<4}  {ABOUT[name]}{note}")
    print(f"{'FILE.npz':<{width}}        arrays of your own")
    print(f"folders are looked for in {folder}")
    return 0


def present(name: str, folder: Path) -> bool:
    """Tell whether the data set's files are in their places, without reading them."""
    from refsnn.data import cifar, imagefolder, recordings

    with suppress(ValueError, OSError):
        match name:
            case "cifar10" | "cifar10-part":
                cifar.find(cifar.CIFAR10, folder, name.endswith("-part"))
            case "cifar100" | "cifar100-part":
                cifar.find(cifar.CIFAR100, folder, name.endswith("-part"))
            case "imagefolder":
                for part in ("train", "val"):
                    imagefolder.class_names(folder / part)
            case "cifar10dvs":
                inside(folder, "cifar10-dvs", recordings.CIFAR10)
            case "nmnist":
                inside(folder, "nmnist", ("Train", "Test"))
        return True
    return False


def run_fetch(arguments: argparse.Namespace) -> int:
    from refsnn.data.fetch import default_data_dir, fetch

    folder = arguments.data_dir or default_data_dir()
    print(fetch(arguments.name, folder, arguments.url, arguments.quiet))
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from refsnn.data.check import to_read
    from refsnn.data.fetch import default_data_dir
    from refsnn.data.readable import reasons

    options = Options(dtype=arguments.dtype, any_range=arguments.any_range)
    paths, read = to_read(arguments.what, arguments.data_dir or default_data_dir(), options)
    unreadable = 0
    for path, why in reasons(paths, read, arguments.jobs):
        if why:
            tqdm.write(f"{path}: {why}")  # beside the progress bar
            unreadable += 1
    count = "1 file" if len(paths) == 1 else f"{len(paths)} files"
    print(f"{unreadable} of {count} can't be used" if unreadable else f"{count}: nothing is wrong")
    return int(unreadable > 0)
