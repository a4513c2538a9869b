"""The losses of distillation against values by hand, limits, differences and PyTorch."""

import math

import numpy as np
import pytest

from refsnn.oracle.naive.distillation import of_features, of_logits
from refsnn.oracle.naive.objective import cross_entropy, cross_entropy_gradient

LN3, LN4_3 = math.log(3), math.log(4 / 3)
RNG = np.random.default_rng(7)
STUDENT, TEACHER = RNG.normal(0, 2, (2, 3, 5))
LABELS = [4, 0, 2]
O_SEQ, FEATURES = RNG.normal(size=(3, 2, 2, 1, 3)), RNG.normal(size=(2, 2, 1, 2))
ALIGN = RNG.normal(size=(3, 2))


def differences(function, array):
    """Return central differences of a function of this array."""
    found = np.zeros(array.shape)
    for place in np.ndindex(*array.shape):
        above, below = array.copy(), array.copy()
        above[place] += 1e-5
        below[place] -= 1e-5
        found[place] = (function(above) - function(below)) / 2e-5
    return found


@pytest.mark.parametrize(
    ("temperature", "alpha", "loss", "slope"),
    [
        (1, 1.0, 0.5 * LN4_3, -0.25),
        (1, 0.5, 0.75 * LN4_3, 0.0),
        (1, 0.0, LN4_3, 0.25),
        (2, 1.0, 2.0 * LN4_3, -0.5),
    ],
)
def test_logits_by_hand(temperature, alpha, loss, slope):
    """The softmax is (1/4, 3/4) at this temperature, and the teacher's (1/2, 1/2)."""
    student = np.array([[0.0, temperature * LN3]])
    got, gradient = of_logits(student, [[3.0, 3.0]], [1], temperature, alpha)
    assert got == pytest.approx(loss, rel=1e-14)
    np.testing.assert_allclose(gradient, [[slope, -slope]], rtol=1e-14, atol=1e-16)


def test_two_images_count_half_each():
    once, gradient = of_logits(STUDENT[:1], TEACHER[:1], LABELS[:1], 3.0, 0.6)
    rows = [0, 0]
    twice, gradients = of_logits(STUDENT[rows], TEACHER[rows], [LABELS[0]] * 2, 3.0, 0.6)
    assert twice == pytest.approx(once, rel=1e-14)
    np.testing.assert_allclose(gradients, [gradient[0] / 2] * 2, rtol=1e-14)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0])
def test_gradients_at_the_logits_are_derivatives(alpha, temperature):
    rest = (TEACHER, LABELS, temperature, alpha)
    got = of_logits(STUDENT, *rest)[1]
    want = differences(lambda z: of_logits(z, *rest)[0], STUDENT)
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(got.sum(axis=1), 0, atol=1e-15)


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0])
def test_logits_agree_with_pytorch(alpha):
    torch = pytest.importorskip("torch")
    loss, gradient = of_logits(STUDENT, TEACHER, LABELS, 4.0, alpha)
    z, f = torch.tensor(STUDENT, requires_grad=True), torch.nn.functional
    q = f.log_softmax(z / 4, dim=1)
    p = f.softmax(torch.tensor(TEACHER) / 4, dim=1)
    want = alpha * 16 * f.kl_div(q, p, reduction="batchmean")
    want = want + (1 - alpha) * f.cross_entropy(z, torch.tensor(LABELS))
    want.backward()
    assert loss == pytest.approx(want.item(), rel=1e-13)
    np.testing.assert_allclose(gradient, z.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_without_a_teacher_it_is_the_cross_entropy():
    loss, gradient = of_logits(STUDENT, TEACHER, LABELS, 4.0, 0.0)
    assert loss == cross_entropy(STUDENT, LABELS)
    np.testing.assert_allclose(gradient, cross_entropy_gradient(STUDENT, LABELS), rtol=1e-15)


def test_a_student_that_equals_its_teacher_learns_from_labels_alone():
    """Logits are the same but for a constant of each image."""
    teacher = STUDENT + np.array([[1.0], [-2.0], [0.5]])
    loss, gradient = of_logits(STUDENT, teacher, LABELS, 4.0, 0.7)
    assert loss == pytest.approx(0.3 * cross_entropy(STUDENT, LABELS), rel=1e-13)
    want = 0.3 * cross_entropy_gradient(STUDENT, LABELS)
    np.testing.assert_allclose(gradient, want, rtol=1e-12, atol=1e-15)


def test_the_distance_is_0_at_the_teacher_and_positive_elsewhere():
    assert of_logits(STUDENT, STUDENT, LABELS, 2.0, 1.0)[0] == pytest.approx(0, abs=1e-15)
    assert of_logits(STUDENT, TEACHER, LABELS, 2.0, 1.0)[0] > 0.1


def test_high_temperatures_compare_centred_logits():
    loss, gradient = of_logits(STUDENT, TEACHER, LABELS, 1e5, 1.0)
    centred = STUDENT - TEACHER
    centred = centred - centred.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, centred / (3 * 5), atol=1e-4)
    assert loss == pytest.approx((centred**2).sum() / (2 * 3 * 5), rel=1e-4)


def test_large_logits_do_not_overflow():
    loss, gradient = of_logits([[2000.0, 0.0]], [[0.0, 2000.0]], [0], 1.0, 1.0)
    assert loss == 2000
    assert gradient.tolist() == [[1, -1]]


@pytest.mark.parametrize(
    ("align", "loss", "do", "dalign"),
    [(None, 0.0625 * 8, 0.25 * 8, None), ([[2.0]], 0.5625 * 8, 1.5 * 8, [[0.75 * 8]])],
)
def test_features_by_hand(align, loss, do, dalign):
    """The mean is 1/2, F 1/4, beta 8."""
    o = np.array([1.0, 0.0]).reshape(2, 1, 1, 1, 1)
    got = of_features(o, np.full((1, 1, 1, 1), 0.25), 8.0, align)
    assert got[0] == loss
    assert got[1].ravel().tolist() == [do] * 2
    assert (got[2] if align is None else got[2].tolist()) == dalign


def test_features_are_divided_by_the_images_alone():
    """Two images, six pixels and three channels, all 1 too large."""
    o = np.ones((4, 2, 2, 3, 3))
    loss, do, _ = of_features(o, np.zeros(o.shape[1:]), 0.5)
    assert loss == pytest.approx(0.5 * 6 * 3, rel=1e-14)
    np.testing.assert_allclose(do, 0.5 * 2 / (2 * 4), rtol=1e-14)


def test_gradients_of_features_are_derivatives():
    _, do, dalign = of_features(O_SEQ, FEATURES, 0.9, ALIGN)
    want = differences(lambda o: of_features(o, FEATURES, 0.9, ALIGN)[0], O_SEQ)
    np.testing.assert_allclose(do, want, rtol=1e-7, atol=1e-9)
    want = differences(lambda a: of_features(O_SEQ, FEATURES, 0.9, a)[0], ALIGN)
    np.testing.assert_allclose(dalign, want, rtol=1e-7, atol=1e-9)


def test_features_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    loss, do, dalign = of_features(O_SEQ, FEATURES, 0.9, ALIGN)
    o, a = (torch.tensor(array, requires_grad=True) for array in (O_SEQ, ALIGN))
    mean = o.mean(dim=0).permute(0, 3, 1, 2)
    aligned = torch.nn.functional.conv2d(mean, a.T[:, :, None, None])
    target = torch.tensor(FEATURES).permute(0, 3, 1, 2)
    want = 0.9 * ((aligned - target) ** 2).sum() / len(FEATURES)
    want.backward()
    assert loss == pytest.approx(want.item(), rel=1e-13)
    np.testing.assert_allclose(do, o.grad.numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(dalign, a.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_no_alignment_is_that_of_the_identity():
    features = RNG.normal(size=(2, 2, 1, 3))
    none, identity = (of_features(O_SEQ, features, 0.9, a) for a in (None, np.eye(3)))
    assert none[0] == identity[0]
    np.testing.assert_array_equal(none[1], identity[1])


def test_features_that_are_met_cost_nothing():
    loss, do, dalign = of_features(O_SEQ, O_SEQ.mean(axis=0) @ ALIGN, 1.0, ALIGN)
    assert loss == pytest.approx(0, abs=1e-28)
    np.testing.assert_allclose(do, 0, atol=1e-14)
    np.testing.assert_allclose(dalign, 0, atol=1e-14)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="without align"):
        of_features(O_SEQ, FEATURES, 1.0)
    with pytest.raises(ValueError, match="A \\(2, 2\\)"):
        of_features(O_SEQ, FEATURES, 1.0, ALIGN[:2])
    with pytest.raises(ValueError, match="the teacher's \\(3, 4\\)"):
        of_logits(STUDENT, TEACHER[:, :4], LABELS, 1.0, 0.5)
