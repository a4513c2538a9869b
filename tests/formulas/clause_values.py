"""For each clause with formulas, the numbers that the code computes for their symbols."""

import math

import numpy as np
from scipy.special import erf

from refsnn import network
from refsnn.equations import common_surrogates, shortcut, surrogate
from refsnn.equations.batchnorm import BatchNorm, Running, batchnorm_backward, batchnorm_forward
from refsnn.equations.conv import Conv, conv_forward, conv_weight_gradient
from refsnn.equations.distillation import Distillation, feature_loss
from refsnn.equations.lif import LIF, initial_potential, lif_backward, lif_forward, reset
from refsnn.equations.loss import cross_entropy_backward, cross_entropy_forward
from refsnn.equations.neurons import GLIF, MPBN, PLIF, Diet, RealSpike
from refsnn.equations.neurons.sigmoid import sigmoid
from refsnn.equations.norms import BNTT, PSPBN, TEBN
from refsnn.equations.norms.psp import psp_backward, psp_forward
from refsnn.equations.potentials import DistributionLoss, IMLoss
from refsnn.equations.sew import JOINS, join_forward
from refsnn.equations.shape_search import ShapeSearch, choose_shape
from refsnn.network.layers import Context
from refsnn.network.layers import conv_forward as conv_layer
from refsnn.network.membrane import membrane_forward
from refsnn.ops import NUMPY, TET
from refsnn.training.optimizer import cosine
from refsnn.training.settings import NeuronSettings


def steps(values, before=0.0, after=0.0):
    """A sequence that is counted from 1, with what comes before and after it."""
    return dict(enumerate([before, *values, after]))


def neuron(**reset_by):
    """Eq. 1 to 3, R1 and R6: one neuron with one input over six steps."""
    rng, p = np.random.default_rng(3), LIF(0.6, 0.7, surrogate.Tanh(0.8), **reset_by)
    x, w, u0 = rng.normal(0.6, 1, (6, 1, 1, 1)), np.full((1, 1, 1, 1), 1.3), np.array(0.4)
    c, conv = conv_forward(x, w, Conv())
    o, cache = lif_forward(c.ravel(), u0, p)
    g_o = rng.normal(size=6)
    grads = lif_backward(g_o, cache)
    h = p.surrogate.slope(cache.u_pre_seq - p.v_th, p.v_th)
    delta = grads.dc_seq
    after = np.append(delta[1:], 0)
    assert 0 < o.sum() < 6
    return {
        "T": 6,
        "tau": p.tau,
        "v_th": p.v_th,
        "W": 1.3,
        "x": steps(x.ravel()),
        "c": steps(c.ravel()),
        "u_pre": steps(cache.u_pre_seq),
        "o": steps(o),
        "u": steps(reset(cache.u_pre_seq, o, p), u0),
        "R": p.reset_amount,
        "h": steps(h),
        "g_o": steps(g_o),
        "delta": steps(delta),
        "G": steps(g_o - p.tau * after * cache.u_pre_seq),
        "dL_dc": steps(delta),
        "dL_dtau": grads.dtau,
        "dL_dv_th": grads.dv_th,
        "dL_du": {0: grads.du0},
        "dL_dW": conv_weight_gradient(delta.reshape(6, 1, 1, 1), conv).item(),
    }


SURROGATES = {
    "tanh": surrogate.Tanh(0.8),
    "tanh as printed": surrogate.TanhLiteral(0.8),
    "rectangular": surrogate.Rectangular(1.5),
    "triangular": surrogate.Triangular(0.8),
    "sigmoid": common_surrogates.Sigmoid(0.8),
    "atan": common_surrogates.ATan(0.8),
    "fast sigmoid": common_surrogates.FastSigmoid(0.8),
    "softsign": common_surrogates.SoftSign(0.8),
    "SuperSpike": common_surrogates.SuperSpike(0.8),
    "piecewise quadratic": common_surrogates.PiecewiseQuadratic(0.8),
    "exponential": common_surrogates.Exponential(0.8),
    "Gaussian": common_surrogates.Gaussian(0.8),
    "Dspike": common_surrogates.Dspike(0.8, 1.5),
    "rectifier": common_surrogates.Rectifier(1.5),
}


WIDE = common_surrogates.Rectifier(8.0)  # no potential is beyond its edge


def at_potential(u_pre):
    """Eq. 4: slopes and primitives at a potential."""
    x, v_th = np.array(u_pre - 0.75), 0.75
    scope = {"u_pre": u_pre, "v_th": v_th, "x": x.item(), "k": 0.8, "a": 1.5, "gamma": 0.8}
    scope |= {"tanh": np.tanh, "cosh": np.cosh, "ln": np.log, "exp": np.exp, "arctan": np.arctan}
    scope |= {
        "erf": erf,
        "sqrt": np.sqrt,
        "sign": np.sign,
        "pi": np.pi,
        "alpha": 0.8,
        "sigma": 0.8,
        "b": 0.8,
        "width": 1.5,
        "psi": lambda z: 8 * WIDE.primitive(np.array(z), v_th) - 4,
        "dpsi": lambda z: 8 * WIDE.slope(np.array(z), v_th),
        "z": abs(x.item()),
        "min": min,
    }
    for label, s in SURROGATES.items():
        scope[f"{label}:"] = {"h": s.slope(x, v_th), "o": s.primitive(x, v_th)}
    return scope | scope["tanh:"]


#: potentials around the threshold 0.75, on the rectangle's edges, at the triangle's kinks
POTENTIALS = [-2.0, -0.3, 0.0, 0.2, 0.75, 0.9, 1.5, 3.1]


def block():
    """Eq. 5: a residual block with an identity skip, within a network."""
    net = network.Network(network.architecture("1:4"), 2, 3)
    rng = np.random.default_rng(1)
    params, buffers = network.init_params(net, rng), network.init_buffers(net)
    params = {name: p + 0.3 * rng.normal(size=p.shape) for name, p in params.items()}
    images = rng.normal(size=(3, 6, 6, 2))
    run = network.forward(net, params, buffers, network.encode(images, 4), NUMPY)
    fired = {name: cache.o_seq for name, cache in network.neuron_caches(run)}

    def layer(x_seq, index):
        conv, norm = f"stage1.block0.conv{index}.weight", f"stage1.block0.bn{index}"
        y, _ = NUMPY.conv_forward(x_seq.reshape(-1, 6, 6, 4), params[conv], Conv((1, 1), (1, 1)))
        running = Running(buffers[f"{norm}.running_mean"], buffers[f"{norm}.running_var"])
        weight, bias = params[f"{norm}.weight"], params[f"{norm}.bias"]
        return batchnorm_forward(y.reshape(x_seq.shape), weight, bias, running, net.norm, True)[0]

    def g(c_seq):
        return lif_forward(c_seq, None, net.lif)[0]

    x, o = fired["stem.lif0"], fired["stage1.block0.lif2"]
    assert 0 < o.mean() < 1
    return {"x": x, "o": o, "g": g, "f": lambda x_seq: layer(g(layer(x_seq, 1)), 2)}


def information():
    """IMLOSS: a layer's mean potential."""
    u_pre, p = np.random.default_rng(3).normal(0.3, 1, (4, 2, 3, 5)), LIF(v_th=0.7)
    value = IMLoss(1.5).value(u_pre, p)
    return {"L": value, "lam": 1.5, "mean": np.mean, "u_pre": u_pre, "v_th": 0.7}


def distribution():
    """MPD: three channels, each with one of the three faults, and one with two."""
    rng, p, loss = np.random.default_rng(3), LIF(v_th=0.7), DistributionLoss(0.3)
    x = rng.normal([2.0, 0.0, 0.1, 0.4], [0.5, 3.0, 0.3, 0.1], (4, 6, 4))
    u_pre = p.v_th * (1 + x)
    m, s = x.mean(axis=(0, 1)), np.sqrt(x.var(axis=(0, 1)) + 1e-10)
    terms = {"D": abs(m) - s, "S": s - 2, "R": 1 - abs(m) - s}
    scope = {name: np.maximum(term, 0) for name, term in terms.items()}
    return scope | {"L": loss.value(u_pre, p), "lam": 0.3, "mean": np.mean}


def searched():
    """DSPIKE: differences of a loss of two weights, of which the search's cosines are made."""
    w, search, seen = np.array([0.3, -0.5]), ShapeSearch(eps=0.5), []

    def loss(x):
        return float(x[0] ** 3 + 2 * np.sin(x[1]) + x[0] * x[1])

    eps = 0.5 * w.std()
    d = np.array([(loss(w + e) - loss(w - e)) / (2 * eps) for e in eps * np.eye(2)])
    along = choose_shape(
        loss, lambda b: seen.append(b) or (d if b > 3 else -d), w, [0, 1], 3.0, search
    )
    assert along == 3.2
    assert seen == [3.0, 3.2, 2.8]
    scope = {"L": loss, "w": w, "eps": eps, "i": 1}
    return scope | {"d": d, "e_i": eps * np.eye(2)[1]}


def sharpening():
    """ESG: the number of a surrogate in epoch 3 of 8."""
    settings = NeuronSettings(surrogate="sigmoid", surrogate_shape=2.0, surrogate_end=20.0)
    alpha = settings.surrogate_in(3, 8).alpha
    return {"K_i": alpha, "i": 3, "N": 8, "K_0": 2.0, "K_end": 20.0, "ln": np.log}


def joined():
    """SEW: spikes of a block and of its skip, joined in three ways."""
    rng = np.random.default_rng(3)
    a, s = (rng.random((3, 4, 2, 2, 5)) < 0.5).astype(float), rng.integers(0, 3, (3, 4, 2, 2, 5))
    kinds = {f"{kind}:": {"y": join_forward(a, s, kind, float)} for kind in JOINS}
    return {"a": a, "s": s} | kinds


def membrane():
    """MS: a block of currents with an identity skip, by itself."""
    net = network.Network(network.architecture("1:4"), 2, 3, block="ms")
    rng = np.random.default_rng(1)
    params, buffers = network.init_params(net, rng), network.init_buffers(net)
    context = Context(net, params, buffers, NUMPY, training=True)
    x = rng.normal(0.5, 1, (4, 3, 6, 6, 4))
    y, _ = membrane_forward(x, net.blocks()[0], context)

    def layer(x_seq, index):
        conv, norm = f"stage1.block0.conv{index}", f"stage1.block0.bn{index}"
        p = Conv((1, 1), (1, 1))
        return batchnorm_forward(*conv_layer(x_seq, conv, norm, p, context)[0], net.norm, True)[0]

    def g(c_seq):
        return lif_forward(c_seq, None, net.lif)[0]

    return {"x": x, "y": y, "g": g, "f": lambda x_seq: layer(g(layer(x_seq, 1)), 2)}


def branches(method, i=3, weight=1.0):
    """Eq. 6, 7 and 10 and D13: three branches combined, and the loss."""
    rng = np.random.default_rng(2)
    b, labels = list(rng.normal(size=(3, 5, 4))), rng.integers(0, 4, 5)
    side = shortcut.side_coefficient(method, i, 8, 0.25, weight)
    o_final = shortcut.combine_forward(b, side)
    loss, cache = shortcut.objective_forward(b, labels, side)
    db = shortcut.objective_backward(cache)
    _, of_final = cross_entropy_forward(o_final, labels)
    return {
        "n": 3,
        "b": dict(enumerate(b, 1)),
        "o_final": o_final,
        "side": side,
        "i": i,
        "I": 8,
        "lam": 0.25,
        "lam_i": shortcut.balance(i, 8, 0.25),
        "y": labels,
        "L": loss,
        "CE": lambda logits, y: cross_entropy_forward(logits, y)[0],
        "dL_db": dict(enumerate(db, 1)),
        "dL_do_final": cross_entropy_backward(of_final),
        "p": of_final.p,
        "N": 5,
    }


def evolution_derivation():
    scope = branches("evolutionary")
    return scope | {"y": np.eye(4)[scope["y"]]}


def cross_entropy():
    scope = evolution_derivation()
    return scope | {"dL_dlogits": scope["dL_do_final"]}


def losses():
    scope = branches("evolutionary")
    b = list(scope["b"].values())
    loss, _ = shortcut.objective_forward(b, scope["y"], scope["side"], "losses")
    return scope | {"L": loss, "losses:": {"L": loss}}


def sweep():
    """Eq. 9: four blocks, heads and a weight, each a number."""
    rng, n = np.random.default_rng(4), 4
    factor, head, db = (dict(enumerate(rng.normal(size=n), 1)) for _ in "abc")
    at_output, weight = {}, 1.7

    def pull_block(k):
        def pull(g):
            at_output[k] = g
            return g * factor[k], {"W": g * weight} if k == 1 else {}

        return pull

    def pull_head(k):
        return lambda g: (g * head[k], {})

    blocks = {k: pull_block(k) for k in db}
    heads = {k: pull_head(k) for k in db}
    _, grads = shortcut.shortcut_backward(*(list(d.values()) for d in (db, heads, blocks)))
    return {
        "n": n,
        "d": at_output,
        "P": {k: lambda g, k=k: g * factor[k] for k in db},
        "H": {k: lambda g, k=k: g * head[k] for k in db},
        "dL_db": db,
        "db_dW": {
            (k, 1): head[k] * math.prod(factor[j] for j in range(2, k + 1)) * weight for k in db
        },
        "dL_dW": {1: grads["W"]},
    }


class FromOne(np.ndarray):
    """An array whose first axis is counted from 1."""

    def __getitem__(self, index):
        plain = np.asarray(self)
        return plain[index - 1] if isinstance(index, int) else plain[index]


def every_step():
    """TET: the loss of the logits of three steps."""
    rng, labels = np.random.default_rng(6), np.array([2, 0, 3, 3, 1])
    b, loss = rng.normal(size=(3, 5, 4)), TET(0.2, 0.6)
    value, cache = loss.forward(b, labels)
    e = np.exp(b)
    return {
        "b": b.view(FromOne),
        "p": (e / e.sum(axis=2, keepdims=True)).view(FromOne),
        "dL_db": loss.backward(cache).view(FromOne),
        "L": value,
        "CE": lambda logits, y: cross_entropy_forward(logits, labels)[0],
        "mean": np.mean,
        "y": np.eye(4)[labels],
        **{"lam": 0.2, "phi": 0.6, "T": 3, "N": 5, "K": 4},
    }


def distilled():
    """KDSNN: the loss of logits, and that of features by way of a convolution."""
    rng, labels = np.random.default_rng(6), np.array([2, 0, 3, 3, 1])
    z, teacher = rng.normal(size=(2, 5, 4))
    loss = Distillation(teacher, 3.0, 0.7)
    value, cache = loss.forward(z, labels)
    of_labels, of_labels_cache = cross_entropy_forward(z, labels)
    p, q = cache.p, cache.q
    return {
        "L": value,
        "KL": lambda q, p: (q * np.log(q / p)).sum() / 5,
        "CE": lambda z, y: of_labels,
        "dL_dz": loss.backward(cache),
        "dCE_dz": cross_entropy_backward(of_labels_cache),
        **{"q": q, "p": p, "z": z, "y": labels, "alpha": 0.7, "H": 3.0, "N": 5},
    }


def features():
    rates, teacher = np.random.default_rng(6).normal(size=(2, 3, 2, 2, 1))
    value, _, _ = feature_loss(rates, teacher, np.full((1, 1, 1, 1), 1.3), 0.2)
    return {"L": value, "A": 1.3, "rates": rates, "F": teacher, "beta": 0.2, "N": 3, "sum": np.sum}


def learnt(model, p, params):
    """PLIF, GLIF, DIET, MPBN and REALSPIKE: one neuron over six steps, in a batch of three."""
    rng = np.random.default_rng(9)
    params = {name: np.asarray(value, float) for name, value in params.items()}
    c, g_o = rng.normal(0.6, 1, (6, 3, 1)), rng.normal(size=(6, 3, 1))
    running = Running(np.zeros(1), np.ones(1))
    y, _, cache = model.forward(c, params, running, p, True)
    delta, grads = model.backward(g_o, cache)
    assert 0 < cache.o_seq.sum() < 18
    u = reset(cache.u_pre_seq, cache.o_seq, p)
    known = {"c": c, "u_pre": cache.u_pre_seq, "o": cache.o_seq, "y": y, "u": u}
    scope = {name: steps(x[:, 0, 0]) for name, x in known.items()}
    scope |= {"T": 6, "v_th": p.v_th, "tau": p.tau, "exp": np.exp}
    scope |= {name: value.item() for name, value in params.items() if value.size == 1}
    return scope, params, cache, delta, grads


def plif():
    scope, params, *_ = learnt(PLIF(), LIF(0.6, 0.7), {"w": [0.4]})
    scope["s"] = sigmoid(params["w"]).item()
    return scope


def plif_derivation():
    """The sum over the batch of three as one over all steps, one image after the other."""
    _, params, cache, dc, grads = learnt(PLIF(), LIF(0.6, 0.7), {"w": [0.4]})
    s = sigmoid(params["w"]).item()
    before = np.concatenate([np.zeros((1, 3, 1)), reset(cache.u_pre_seq, cache.o_seq, LIF())[:-1]])
    every = {"delta": dc / s, "c": cache.c_seq}
    moved = {name: steps(x.T.ravel()) for name, x in every.items()}
    u = dict(enumerate(before.T.ravel()))
    return moved | {"u": u, "s": s, "T": 18, "dL_dw": grads["w"].item()}


def glif():
    rng = np.random.default_rng(1)
    names = ("alpha", "beta", "gamma", "tau", "v_th", "l", "r")
    raw = {name: [x] for name, x in zip(names, rng.normal(0, 0.7, 7), strict=True)}
    raw["g"] = rng.normal(size=(6, 1))
    scope, params, cache, _, _ = learnt(GLIF(), LIF(0.6, 0.7), raw)
    k = cache.constants
    scope |= {name: sigmoid(x).item() for name, x in params.items() if x.size == 1}
    scope |= {"g": steps(sigmoid(params["g"]).ravel()), "B": steps(k.gain.ravel())}
    return scope | {"A": k.leak.item(), "R": k.amount.item(), "D": k.drop.item()}


def diet():
    p = LIF(0.6, 0.7, reset="subtract")
    scope, _, cache, *_ = learnt(Diet(), p, {"leak": [0.8], "v_th": [0.7]})
    u_pre = 0.7 * cache.u_pre_seq
    u = u_pre - 0.7 * cache.o_seq
    return scope | {"u_pre": steps(u_pre[:, 0, 0]), "u": steps(u[:, 0, 0])}


def diet_derivation():
    p = LIF(0.6, 0.7, reset="subtract")
    _, _, cache, dc, grads = learnt(Diet(), p, {"leak": [0.8], "v_th": [0.7]})
    every = {"delta": dc, "c": cache.c_seq}
    scope = {name: steps(x.ravel()) for name, x in every.items()}
    return scope | {"v_th": 0.7, "T": 18, "dL_dv_th": grads["v_th"].item()}


def mpbn():
    params = {"weight": [1.2], "bias": [0.3]}
    scope, _, cache, _, _ = learnt(MPBN(), LIF(0.6, 0.7), params)
    x_hat = [norm.x_hat.ravel()[0] for norm in cache.norms]
    scope |= {"v": steps(cache.v_seq[:, 0, 0]), "x_hat": steps(x_hat), "gamma": 1.2, "beta": 0.3}
    return scope


def real_spike():
    return learnt(RealSpike(), LIF(0.6, 0.7), {"a": [1.3]})[0]


def norm_by_step(model, **params):
    """TEBN and BNTT: batch norm of one channel over four steps."""
    rng = np.random.default_rng(5)
    params = {name: np.array(value) for name, value in params.items()}
    kept = (4, 1) if model.running_by_step else (1,)
    running = Running(np.zeros(kept), np.ones(kept))
    x, p = rng.normal(2, 3, (4, 2, 3, 3, 1)), model.constants(BatchNorm())
    y, _, cache = batchnorm_forward(x, *model.affine(params), running, p, True)
    known = {"y": y, "x_hat": cache.x_hat}
    scope = {name: steps([*values]) for name, values in known.items()}
    return scope | {"T": 4} | {n: steps(v.ravel()) for n, v in params.items() if v.size > 1}


def tebn():
    scope = norm_by_step(TEBN(), weight=[1.3], bias=[-0.2], p=[0.7, 1.1, 1.4, 0.9])
    return scope | {"gamma": 1.3, "beta": -0.2}


def bntt():
    scope = norm_by_step(BNTT(), weight=[[0.7], [1.1], [1.4], [0.9]])
    return scope | {"gamma": scope["weight"]}


def psp():
    """PSPBN: the norm of what one channel of a convolution takes."""
    rng, p = np.random.default_rng(5), BatchNorm(eps=0.01)
    x, gamma, da = rng.normal(2, 3, (2, 3, 4, 4, 1)), np.array([1.3]), np.array([0.7])
    running = Running(np.zeros(1), np.ones(1))
    factor, cache = psp_forward(x, gamma, running, PSPBN(), p, True)
    scope = {"x": x, "y": factor * x, "gamma": gamma, "s": cache.s, "eps": p.eps, "dL_da": da}
    scope |= {"mean": np.mean, "sqrt": np.sqrt, "M": x.size}
    return scope | {"slope": psp_backward(da, cache)[1]}


def norm():
    """D8: batch norm of one channel."""
    rng, p = np.random.default_rng(5), BatchNorm(scale=0.7, eps=0.01)
    x, dy = rng.normal(2, 3, (2, 3, 4, 4, 1)), rng.normal(size=(2, 3, 4, 4, 1))
    gamma, beta = np.array([1.3]), np.array([-0.2])
    running = Running(np.zeros(1), np.ones(1))
    y, _, cache = batchnorm_forward(x, gamma, beta, running, p, True)
    grads = batchnorm_backward(dy, cache)
    return {
        "x": x,
        "x_hat": cache.x_hat,
        "y": y,
        "gamma": gamma,
        "beta": beta,
        "scale": p.scale,
        "eps": p.eps,
        "mean": np.mean,
        "sum": np.sum,
        "sqrt": np.sqrt,
        "s": 1 / np.sqrt(x.var() + p.eps),
        "g": dy * gamma * p.scale,
        "dL_dy": dy,
        "dL_dx": grads.dx_seq,
        "dL_dbeta": grads.dbeta.item(),
        "dL_dgamma": grads.dgamma.item(),
    }


def running_statistics():
    """D25: the two statistics after a batch."""
    rng, p = np.random.default_rng(6), BatchNorm(momentum=0.3)
    x = rng.normal(2, 3, (2, 3, 4, 4, 2))
    old = Running(rng.normal(size=2), rng.uniform(1, 2, 2))
    _, new, _ = batchnorm_forward(x, np.ones(2), np.zeros(2), old, p, True)
    flat = x.reshape(-1, 2)
    for index, batch in enumerate((flat.mean(0), flat.var(0, ddof=1))):
        yield {"new": new[index], "running": old[index], "batch": batch, "momentum": 0.3}


def first_weights():
    """D18: what is drawn, by a generator that gives back the standard deviation."""

    class Deviation:
        def normal(self, mean, std, shape):
            assert mean == 0
            return np.full(shape, std)

    net = network.Network(network.architecture("1-1:4-6"), 2, 3)
    params = network.init_params(net, Deviation())
    scope = {"sqrt": np.sqrt, "std": np.max, "k": 3, "C_out": 6, "n_in": 6}
    return scope | {
        "W_conv": params["stage2.block0.conv1.weight"],  # 3x3, 4 to 6 channels
        "W_FC": params["head.fc.weight"],
    }


def learning_rates():
    for i in (1, 2, 7, 9):
        value = cosine(0.3, i, 9)
        yield {"i": i, "I": 9, "lr": 0.3, "lr_i": value, "cos": math.cos, "pi": math.pi}


#: clause -> the numbers of which its formulas speak, one or several sets
SCOPES = {
    "EQ1": lambda: [neuron()],
    "EQ2": lambda: [neuron()],
    "EQ3": lambda: [neuron()],
    "EQ4": lambda: map(at_potential, POTENTIALS),
    "EQ5": lambda: [block()],
    "EQ6": lambda: [branches("shortcut")],
    "EQ7": lambda: [branches("vanilla")],
    "EQ9": lambda: [sweep()],
    "EQ10": lambda: [branches("evolutionary", i) for i in (1, 5, 8)],
    "EQ10 derivation": lambda: [evolution_derivation()],
    "D5": lambda: map(at_potential, POTENTIALS),
    "D6": lambda: [{"u": {0: initial_potential(np.ones((2, 3)), None)}}],
    "D8": lambda: [norm()],
    "D13": lambda: [branches("evolutionary")],
    "D13 derivation": lambda: [losses()],
    "D14": lambda: [branches("shortcut", weight=0.6)],
    "D18": lambda: [first_weights()],
    "D25": running_statistics,
    "R1": lambda: [neuron()],
    "R3": learning_rates,
    "R5": lambda: map(at_potential, POTENTIALS),
    "TET": lambda: [every_step()],
    "KDSNN": lambda: [{"logits:": distilled(), "features:": features()}],
    "KDSNN derivation": lambda: [distilled()],
    "IMLOSS": lambda: [information()],
    "MPD": lambda: [distribution()],
    "ESG": lambda: [sharpening()],
    "DSPIKE": lambda: [searched()],
    "SEW": lambda: [joined()],
    "MS": lambda: [membrane()],
    "PLIF": lambda: [plif()],
    "PLIF derivation": lambda: [plif_derivation()],
    "GLIF": lambda: [glif()],
    "DIET": lambda: [diet()],
    "DIET derivation": lambda: [diet_derivation()],
    "MPBN": lambda: [mpbn()],
    "REALSPIKE": lambda: [real_spike()],
    "TEBN": lambda: [tebn()],
    "BNTT": lambda: [bntt()],
    "PSPBN": lambda: [psp()],
    "R6": lambda: [neuron(reset="subtract", reset_amount=0.9)],
}
