"""Adapters of other implementations, each an object with a method `run(case)`.

`run(case) -> Mapping[str, array]` computes the case's outputs from `case.inputs`, following the
case's `conventions` and `settings`, and returns them by name; `numpy.asarray` must accept each
array. It raises `Unsupported(reason)` for a case that it cannot compute. Optional attributes:

- `name`
- `conventions`: what it is meant to compute, in place of the paper's: a profile's name, a TOML
  file, a dict, or a list of these (see `refsnn.oracle.declare`)
- `has_own_numbers`: True where it ignores a case's numbers, as it has its own; then the cases are
  made for the paper's numbers, or for those in `conventions`
- `precision`: "float64", "float32", "float16" or "bfloat16" (default: the arrays' own)
- `levels`: a tuple (default: all)
- `omits`: fnmatch patterns of outputs that it does not return, such as "*u_pre"
"""


class Unsupported(Exception):
    """The implementation cannot compute this case; the message says what it lacks."""
