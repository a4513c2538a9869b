"""Which element of a large array is at fault, without asking for each."""

from collections.abc import Callable

import numpy as np

from refsnn.gradcheck.layer import Array

FEW = 16  # elements that are asked for one by one


def worst_element(
    v: Array, off: Callable[[Array], tuple[float, float]]
) -> tuple[tuple[int, ...], float]:
    """Index of the worst element, and `off`'s second number for it.

    `off(part)` -> (badness, anything) of the direction v with all elements but some set to 0.
    Half of the elements are dropped until few are left: what is off in the whole is off in one
    of its halves.
    """

    def masked(chosen: Array) -> tuple[float, float]:
        part = np.zeros(v.size)
        part[chosen] = v.reshape(-1)[chosen]
        return off(part.reshape(v.shape))

    chosen = np.arange(v.size)
    while len(chosen) > FEW:
        chosen = max(np.array_split(chosen, 2), key=lambda half: masked(half)[0])
    found = [masked(chosen[i : i + 1]) for i in range(len(chosen))]
    best = max(range(len(found)), key=lambda i: found[i][0])
    index = np.unravel_index(int(chosen[best]), v.shape)
    return tuple(int(i) for i in index), found[best][1]
