"""Adapters: other implementations, each as an object with `run(case)`.

`run(case) -> Mapping[str, array]` computes the case's outputs from `case.inputs`, following the
case's `conventions` and `settings`, and returns them by name; `numpy.asarray` must accept each
array. It raises `Unsupported(reason)` for a case that the implementation can't express. Optional
attributes: `name`; `precision`, "float64" or "float32" (default: the arrays' own); `levels`, a
tuple (default: all); `omits`, fnmatch patterns of outputs that it can't return, such as "*u_pre".
"""


class Unsupported(Exception):
    """The implementation can't express this case; the message says what it lacks."""
