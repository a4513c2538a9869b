"""Search for the element of a large array that is at fault, without testing each."""

from collections.abc import Callable

import numpy as np

from refsnn.gradcheck.layer import Array

FEW = 16  # elements that are tested one by one


def worst_element(
    v: Array, off: Callable[[Array], tuple[float, float]]
) -> tuple[tuple[int, ...], float]:
    """Return the index of the worst element, and `off`'s second number for it.

    `off(part)` -> (badness, anything) takes the direction v with all elements but some set to 0.
    Half of the elements are dropped until few are left: an error of the whole is an error of one of
    its halves.
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
