"""Losses that compare a spiking student with a teacher (KDSNN; Xu et al., 2023), number by number.

The teacher's logits and features are constants. A gradient is found by changing one number of the
student and adding up what all terms of the loss change by.
"""

import math

import numpy as np

from refsnn.oracle.naive.objective import cross_entropy, cross_entropy_gradient


def of_logits(student, teacher, labels, temperature, alpha):
    """Compute alpha K^2 KL(p || q) + (1 - alpha) CE(student, labels), K the temperature.

    student and teacher are logits (N, classes), those of the student averaged over time; labels
    (N,). p = softmax(teacher / K), q = softmax(student / K). KL is averaged over the N images, as
    the cross-entropy is. Returns the loss and its gradient at `student` (M16).
    """
    student, teacher = np.asarray(student, dtype=float), np.asarray(teacher, dtype=float)
    if student.shape != teacher.shape:
        raise ValueError(f"the student's logits are {student.shape}, the teacher's {teacher.shape}")
    images, classes = student.shape
    weight = alpha * temperature**2 / images
    loss = (1.0 - alpha) * cross_entropy(student, labels)
    by_labels = cross_entropy_gradient(student, labels)
    gradient = np.zeros(student.shape)
    for n in range(images):
        log_q = _log_softmax([z / temperature for z in student[n].tolist()])
        log_p = _log_softmax([z / temperature for z in teacher[n].tolist()])
        for k in range(classes):
            loss += weight * math.exp(log_p[k]) * (log_p[k] - log_q[k])
        for changed in range(classes):
            total = 0.0
            for k in range(classes):
                own = 1.0 if k == changed else 0.0
                d_log_q = (own - math.exp(log_q[changed])) / temperature
                total -= weight * math.exp(log_p[k]) * d_log_q
            gradient[n, changed] = total + (1.0 - alpha) * float(by_labels[n, changed])
    return loss, gradient


def of_features(o_seq, features, weight, align=None):
    """Compute weight * sum over everything of (mean_t o A - F)^2 / N.

    o_seq (T, N, H, W, C_s) are the student's outputs, features F (N, H, W, C_t) the teacher's, and
    align A (C_s, C_t) a convolution of 1x1, or None where both have the same channels. The sum is
    divided by the images alone, not by pixels or channels (M16).

    Returns the loss, and the gradients at o_seq and at A (None without A).
    """
    o_seq, features = np.asarray(o_seq, dtype=float), np.asarray(features, dtype=float)
    steps, images, rows, columns, channels = o_seq.shape
    targets = features.shape[-1]
    if align is None:
        if targets != channels:
            raise ValueError(f"{channels} channels cannot be compared with {targets} without align")
        matrix = [[1.0 if a == b else 0.0 for b in range(targets)] for a in range(channels)]
    else:
        matrix = np.asarray(align, dtype=float).tolist()
    if features.shape[:-1] != (images, rows, columns) or np.shape(matrix) != (channels, targets):
        raise ValueError(f"o_seq is {o_seq.shape}, F {features.shape}, A {np.shape(matrix)}")
    loss, do_seq, dmatrix = 0.0, np.zeros(o_seq.shape), np.zeros((channels, targets))
    for place in np.ndindex(images, rows, columns):
        mean = []
        for a in range(channels):
            total = 0.0
            for t in range(steps):
                total += float(o_seq[t, *place, a])
            mean.append(total / steps)
        for b in range(targets):
            distance = -float(features[*place, b])
            for a in range(channels):
                distance += mean[a] * matrix[a][b]
            loss += weight * distance**2 / images
            by_distance = weight * 2.0 * distance / images
            for a in range(channels):
                dmatrix[a, b] += by_distance * mean[a]
                for t in range(steps):
                    do_seq[t, *place, a] += by_distance * matrix[a][b] / steps
    return loss, do_seq, None if align is None else dmatrix


def _log_softmax(values):
    highest = max(values)
    scale = 0.0
    for value in values:
        scale += math.exp(value - highest)
    return [value - highest - math.log(scale) for value in values]
