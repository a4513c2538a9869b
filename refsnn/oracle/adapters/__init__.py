"""Adapters of other implementations, each an object with a method `run(case)`.

`run(case) -> Mapping[str, array]` computes the case's outputs from `case.inputs`, following the
case's `conventions` and `settings`, and returns them by name; `numpy.asarray` must accept each
array. It raises `Unsupported(reason)` for a case that the implementation cannot compute. Optional
attributes: `name`; `precision`, "float64" or "float32" (default: the arrays' own); `levels`, a
tuple (default: all); `omits`, fnmatch patterns of outputs that it does not return, such as
"*u_pre".
"""


class Unsupported(Exception):
    """The implementation cannot compute this case; the message says what it lacks."""
