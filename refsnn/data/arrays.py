"""Files of arrays."""

import io
import zipfile
from pathlib import Path

import numpy as np

from refsnn.ops import Array


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of an `.npz` file; OSError where it can't be read, ValueError where it is none."""
    content = io.BytesIO(path.read_bytes())  # OSError names the path
    try:
        if not zipfile.is_zipfile(content):
            raise ValueError("not an .npz file")
        content.seek(0)
        with np.load(content, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise ValueError(str(error)) from None
