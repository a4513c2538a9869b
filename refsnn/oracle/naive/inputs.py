"""A convolution of inputs that are normalised by their second moment, one number at a time.

PSP-BN (Ikegawa et al., 2022) stands between neurons and the weights after them. Its own loops are
`norms.pspbn`.
"""

import numpy as np

from refsnn.oracle.naive import layers, norms


def psp_convolution(
    x_seq,
    dc_seq,
    w,
    gamma,
    m2_running,
    stride,
    padding,
    training,
    root=True,
    eps=1e-5,
    momentum=0.1,
):
    """Compute c[t] = conv(y[t], w) with y = gamma x / sqrt(m2 + eps), and its gradients.

    x_seq is (T, N, H, W, C_in), dc_seq = dL/dc (T, N, H', W', C_out), w (kh, kw, C_in, C_out),
    gamma and m2_running (C_in,). m2 is the mean of x^2 of a channel over everything else; without
    training it is the running one. Without root, y = gamma x / (m2 + eps) (M15). Zeros are put
    around y, not around x, so that they do not count in m2.

    Returns "c", the gradients "x", "w" and "gamma", "y", and the new running "square":
    (1 - momentum) old + momentum m2, with nothing corrected for the number of elements.
    """
    x_seq, dc_seq = np.asarray(x_seq, dtype=float), np.asarray(dc_seq, dtype=float)
    settings = (gamma, m2_running, training, eps, momentum, root)
    y_seq = norms.pspbn(x_seq, np.zeros(x_seq.shape), *settings)["y"]
    c_seq, dy_seq, dw = [], [], np.zeros(np.shape(w))
    for y, dc in zip(y_seq, dc_seq, strict=True):
        c_seq.append(layers.conv_forward(y, w, stride, padding))
        dy, dw_now = layers.conv_backward(dc, y, w, stride, padding)
        dy_seq.append(dy)
        for place in np.ndindex(*dw.shape):
            dw[place] += dw_now[place]
    found = norms.pspbn(x_seq, dy_seq, *settings)
    return found | {"c": np.asarray(c_seq), "w": dw}
