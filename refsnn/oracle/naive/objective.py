"""The loss of all branches (Eq. 6, 7, 10, D13 to D15); the main branch is the last."""

import math

import numpy as np


def balance(i, total, lam):
    """Return lam(i) = lam (1 - i/I) for i = 1..I (Eq. 10, D16)."""
    return lam * (1.0 - i / total)


def coefficient(method, i, total, lam, shortcut=1.0):
    """Return the side branches' coefficient: Eq. 7, 6 (D15) or 10."""
    if method == "vanilla":
        return 0.0
    if method == "shortcut":
        return float(shortcut)
    if method == "evolutionary":
        return balance(i, total, lam)
    raise ValueError(f"unknown method {method!r}")


def combine(branches, side):
    """Return b_n + side * sum_{l<n} b_l (Eq. 10, D14); every branch is (N, K)."""
    rows = [np.asarray(branch, dtype=float).tolist() for branch in branches]
    combined = np.zeros(np.shape(branches[-1]))
    for n in range(combined.shape[0]):
        for k in range(combined.shape[1]):
            side_sum = 0.0
            for branch in rows[:-1]:
                side_sum += branch[n][k]
            combined[n, k] = rows[-1][n][k] + side * side_sum
    return combined


def cross_entropy(logits, labels):
    """Return the mean over the batch of -ln softmax(logits)[label].

    logits (N, K), labels (N,).
    """
    rows = np.asarray(logits, dtype=float).tolist()
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        highest = max(row)
        scale = 0.0
        for value in row:
            scale += math.exp(value - highest)
        total += highest + math.log(scale) - row[int(label)]
    return total / len(rows)


def cross_entropy_gradient(logits, labels):
    """Return dL/dlogits = (softmax - one-hot) / N, (N, K)."""
    rows = np.asarray(logits, dtype=float).tolist()
    gradient = np.zeros(np.shape(logits))
    for n, (row, label) in enumerate(zip(rows, labels, strict=True)):
        highest = max(row)
        scale = 0.0
        for value in row:
            scale += math.exp(value - highest)
        for k, value in enumerate(row):
            target = 1.0 if k == int(label) else 0.0
            gradient[n, k] = (math.exp(value - highest) / scale - target) / len(rows)
    return gradient


def over_time(run, labels, side, branch_sum, loss_at):
    """Return the loss of a forward pass, and its gradients for `network.gradients`.

    loss_at is "mean": the objective of the logits of the readout; or "each step": the mean of the
    objectives of every step's logits.
    """
    if loss_at == "mean":
        return objective(run["branches"], labels, side, branch_sum)
    if loss_at != "each step":
        raise ValueError(f"unknown loss_at {loss_at!r}")
    steps = len(run["step_logits"][-1])
    loss, gradients = 0.0, [np.zeros(np.shape(branch)) for branch in run["step_logits"]]
    for t in range(steps):
        now = [branch[t] for branch in run["step_logits"]]
        loss_now, gradients_now = objective(now, labels, side, branch_sum)
        loss += loss_now / steps
        for gradient, gradient_now in zip(gradients, gradients_now, strict=True):
            for n in range(gradient.shape[1]):
                for k in range(gradient.shape[2]):
                    gradient[t, n, k] = gradient_now[n, k] / steps
    return loss, gradients


def objective(branches, labels, side, branch_sum):
    """Return the loss and [dL/db_l] in the order of `branches`.

    branch_sum is "logits" or "losses" (D13).
    """
    weights = [side] * (len(branches) - 1) + [1.0]
    if branch_sum == "logits":
        combined = combine(branches, side)
        loss = cross_entropy(combined, labels)
        points = [combined] * len(branches)
    elif branch_sum == "losses":
        loss = 0.0
        for branch, weight in zip(branches, weights, strict=True):
            loss += weight * cross_entropy(branch, labels)
        points = branches
    else:
        raise ValueError(f"unknown branch_sum {branch_sum!r}")
    gradients = []
    for point, weight in zip(points, weights, strict=True):
        gradient = cross_entropy_gradient(point, labels)
        for n in range(gradient.shape[0]):
            for k in range(gradient.shape[1]):
                gradient[n, k] = weight * gradient[n, k]
        gradients.append(gradient)
    return loss, gradients


def tet(branches, labels, side, lam, phi):
    """Return TET's loss and [dL/db_l] of the branches' logits at every step, each (T, N, K)."""
    steps, images, classes = np.shape(branches[-1])
    entropy, pull, own = 0.0, 0.0, np.zeros((steps, images, classes))
    for t in range(steps):
        now = combine([branch[t] for branch in branches], side)
        entropy += cross_entropy(now, labels) / steps
        slopes = cross_entropy_gradient(now, labels)
        for n in range(images):
            for k in range(classes):
                off = now[n, k] - phi
                pull += off * off / (steps * images * classes)
                own[t, n, k] = (1.0 - lam) * slopes[n, k] / steps
                own[t, n, k] += lam * 2.0 * off / (steps * images * classes)
    gradients = [side * own for _ in branches[:-1]] + [own]
    return (1.0 - lam) * entropy + lam * pull, gradients
