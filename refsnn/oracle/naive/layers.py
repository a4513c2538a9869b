"""Layers without state: convolution, average pooling, global average pooling, fully connected.

Arrays are (N, H, W, C) or (N, features); stride, padding and kernel are pairs (rows, columns), or
one number for both.
"""

import numpy as np


def conv_forward(x, w, stride, padding):
    """Compute y[n,i,j,b] = sum over the window and a of x[n,iy,ix,a] w[ky,kx,a,b].

    Outside x are zeros.
    """
    x_shape, (kh, kw, c_in, c_out) = np.shape(x), np.shape(w)
    rows, columns = output_size(x_shape, (kh, kw), stride, padding)
    x, w = _lists(x), _lists(w)
    y = np.zeros((x_shape[0], rows, columns, c_out)).tolist()
    for n in range(x_shape[0]):
        for i, j, ky, kx, iy, ix in _taps(x_shape, (kh, kw), stride, padding):
            out, pixel, taps = y[n][i][j], x[n][iy][ix], w[ky][kx]
            for a in range(c_in):
                for b in range(c_out):
                    out[b] += pixel[a] * taps[a][b]
    return np.asarray(y, dtype=float).reshape(x_shape[0], rows, columns, c_out)


def conv_backward(dy, x, w, stride, padding):
    """Compute dx (N, H, W, C_in) and dw (kh, kw, C_in, C_out) from dy (N, H', W', C_out)."""
    x_shape, w_shape = np.shape(x), np.shape(w)
    dy, x, w = _lists(dy), _lists(x), _lists(w)
    dx, dw = np.zeros(x_shape).tolist(), np.zeros(w_shape).tolist()
    for n in range(x_shape[0]):
        for i, j, ky, kx, iy, ix in _taps(x_shape, w_shape[:2], stride, padding):
            d_out, pixel, taps = dy[n][i][j], x[n][iy][ix], w[ky][kx]
            d_pixel, d_taps = dx[n][iy][ix], dw[ky][kx]
            for a in range(w_shape[2]):
                for b in range(w_shape[3]):
                    d_pixel[a] += d_out[b] * taps[a][b]
                    d_taps[a][b] += d_out[b] * pixel[a]
    return np.asarray(dx, dtype=float), np.asarray(dw, dtype=float)


def avgpool_forward(x, kernel, stride, padding):
    """Average every window; padding counts as zeros, so the divisor is the window's area."""
    shape, (kh, kw) = np.shape(x), _pair(kernel)
    rows, columns = output_size(shape, (kh, kw), stride, padding)
    x = _lists(x)
    y = np.zeros((shape[0], rows, columns, shape[3])).tolist()
    for n in range(shape[0]):
        for i, j, _ky, _kx, iy, ix in _taps(shape, (kh, kw), stride, padding):
            for a in range(shape[3]):
                y[n][i][j][a] += x[n][iy][ix][a] / (kh * kw)
    return np.asarray(y, dtype=float).reshape(shape[0], rows, columns, shape[3])


def avgpool_backward(dy, shape_of_x, kernel, stride, padding):
    """Compute dx (N, H, W, C) from dy (N, H', W', C)."""
    kh, kw = _pair(kernel)
    dy = _lists(dy)
    dx = np.zeros(shape_of_x).tolist()
    for n in range(shape_of_x[0]):
        for i, j, _ky, _kx, iy, ix in _taps(shape_of_x, (kh, kw), stride, padding):
            for a in range(shape_of_x[3]):
                dx[n][iy][ix][a] += dy[n][i][j][a] / (kh * kw)
    return np.asarray(dx, dtype=float)


def gap_forward(x):
    """Average over all pixels: (N, H, W, C) to (N, C)."""
    count, height, width, channels = np.shape(x)
    x = _lists(x)
    y = np.zeros((count, channels))
    for n in range(count):
        for a in range(channels):
            total = 0.0
            for i in range(height):
                for j in range(width):
                    total += x[n][i][j][a]
            y[n, a] = total / (height * width)
    return y


def gap_backward(dy, shape):
    """Compute dx of this shape (N, H, W, C) from dy (N, C)."""
    count, height, width, channels = shape
    dy = _lists(dy)
    dx = np.zeros(shape)
    for n in range(count):
        for i in range(height):
            for j in range(width):
                for a in range(channels):
                    dx[n, i, j, a] = dy[n][a] / (height * width)
    return dx


def linear_forward(x, w, b):
    """Compute y[n,q] = b[q] + sum_p x[n,p] w[p,q], (N, out), from x (N, in)."""
    count, (size_in, size_out) = len(x), np.shape(w)
    x, w, b = _lists(x), _lists(w), _lists(b)
    y = np.zeros((count, size_out))
    for n in range(count):
        for q in range(size_out):
            total = b[q]
            for p in range(size_in):
                total += x[n][p] * w[p][q]
            y[n, q] = total
    return y


def linear_backward(dy, x, w):
    """Compute dx (N, in), dw (in, out) and db (out) from dy (N, out)."""
    count, (size_in, size_out) = len(x), np.shape(w)
    dy, x, w = _lists(dy), _lists(x), _lists(w)
    dx = np.zeros((count, size_in)).tolist()
    dw = np.zeros((size_in, size_out)).tolist()
    db = [0.0] * size_out
    for n in range(count):
        for q in range(size_out):
            db[q] += dy[n][q]
            for p in range(size_in):
                dx[n][p] += dy[n][q] * w[p][q]
                dw[p][q] += dy[n][q] * x[n][p]
    return np.asarray(dx, dtype=float), np.asarray(dw, dtype=float), np.asarray(db, dtype=float)


def output_size(shape_of_x, kernel, stride, padding):
    """Return the output's rows and columns: windows that fit into the padded image."""
    kernel, stride, padding = _pair(kernel), _pair(stride), _pair(padding)
    rows = (shape_of_x[1] + 2 * padding[0] - kernel[0]) // stride[0] + 1
    columns = (shape_of_x[2] + 2 * padding[1] - kernel[1]) // stride[1] + 1
    return rows, columns


def _taps(shape_of_x, kernel, stride, padding):
    """List all (output row, column, window row, column, input row, column) inside x."""
    rows, columns = output_size(shape_of_x, kernel, stride, padding)
    kernel, stride, padding = _pair(kernel), _pair(stride), _pair(padding)
    found = []
    for i in range(rows):
        for j in range(columns):
            for ky in range(kernel[0]):
                for kx in range(kernel[1]):
                    iy = i * stride[0] + ky - padding[0]
                    ix = j * stride[1] + kx - padding[1]
                    if 0 <= iy < shape_of_x[1] and 0 <= ix < shape_of_x[2]:
                        found.append((i, j, ky, kx, iy, ix))
    return found


def _pair(value):
    return (value, value) if np.ndim(value) == 0 else tuple(value)


def _lists(array):
    return np.asarray(array, dtype=float).tolist()
