"""The LIF neuron in rational numbers: no rounding, so ties with the threshold are real ties."""

from fractions import Fraction


def lif(c, u0, tau, v_th, inclusive=False, amount=None):
    """Compute u_pre [T] and o [T] (0 or 1) of one neuron from Fractions c [T] (Eq. 1, 2, D2).

    The reset is to 0, or takes `amount` off (R6).
    """
    u = Fraction(u0)
    u_pre_seq, o_seq = [], []
    for current in c:
        u_pre = tau * u + current
        fired = u_pre >= v_th if inclusive else u_pre > v_th
        u_pre_seq.append(u_pre)
        o_seq.append(int(fired))
        after = Fraction(0) if amount is None else u_pre - amount
        u = after if fired else u_pre
    return u_pre_seq, o_seq
