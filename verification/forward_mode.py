"""The spiking network as a plain forward computation on dual numbers.

No derivative is written here: all follow from the elementary rules of `dual`.
Sequences are (T, N, H, W, C), conv weights (kh, kw, C_in, C_out), FC weights (in, out).
"""

from dataclasses import dataclass, field

import numpy as np

from verification.dual import Dual, as_dual, exp, fire, log, pad, sqrt, stack


def lif(c_seq, u0, tau, v_th, neuron):
    """Simulate LIF neurons (Eq. 1, 2, D3): c_seq (T, ...) -> u_pre_seq, o_seq, both (T, ...)."""
    c_seq, u, tau, v_th = (as_dual(x) for x in (c_seq, u0, tau, v_th))
    u_pre_seq, o_seq = [], []
    for t in range(len(c_seq)):
        u_pre = tau * u + c_seq[t]
        o = fire(u_pre, v_th, neuron)
        reset = Dual(o.value) if neuron["reset_gradient"] == "detached" else o
        if neuron.get("reset") == "subtract":
            amount = neuron["reset_amount"]
            u = u_pre - (v_th if amount == "v_th" else amount) * reset
        else:
            u = u_pre * (1.0 - reset)
        u_pre_seq.append(u_pre)
        o_seq.append(o)
    return stack(u_pre_seq), stack(o_seq)


def _pair(x):
    return (x, x) if np.ndim(x) == 0 else tuple(x)


def _taps(x, kernel, stride, padding):
    """List (i, j, the pixels that tap (i, j) sees) over zero-padded x (..., H, W, C)."""
    (sr, sc), (pr, pc) = _pair(stride), _pair(padding)
    x = pad(x, [(0, 0)] * (x.ndim - 3) + [(pr, pr), (pc, pc), (0, 0)])
    down, across = (x.shape[-3] - kernel[0]) // sr * sr, (x.shape[-2] - kernel[1]) // sc * sc
    if down < 0 or across < 0:
        raise ValueError(f"window {kernel} is larger than the padded image {x.shape[-3:-1]}")
    return [
        (i, j, x[..., i : i + down + 1 : sr, j : j + across + 1 : sc, :])
        for i, j in np.ndindex(*kernel)
    ]


def conv(x, w, stride, padding):
    """Convolve x (..., H, W, C_in) with w (kh, kw, C_in, C_out), without bias."""
    x, w = as_dual(x), as_dual(w)
    total = 0.0
    for i, j, seen in _taps(x, w.shape[:2], stride, padding):
        total = total + seen.reshape(-1, x.shape[-1]) @ w[i, j]
    return total.reshape(*seen.shape[:-1], w.shape[3])


def avgpool(x, kernel, stride, padding):
    """Average windows of x (..., H, W, C); the zeros of the padding count."""
    rows, columns = _pair(kernel)
    total = 0.0
    for _, _, seen in _taps(as_dual(x), (rows, columns), stride, padding):
        total = total + seen
    return total / (rows * columns)


def global_avgpool(x):
    """Average over all pixels: (..., H, W, C) -> (..., C)."""
    return as_dual(x).mean(axis=(-3, -2))


def linear(x, w, b):
    """Apply a linear layer: (..., in) -> (..., out)."""
    return as_dual(x) @ w + b


def batchnorm(x_seq, gamma, beta, running_mean, running_var, norm, training):
    """Apply batch norm (D8) to x_seq (T, N, H, W, C), with C parameters.

    In training it uses the batch's mean and biased variance, otherwise the running ones. Running
    statistics are not updated.
    """
    x_seq = as_dual(x_seq)
    if training:
        first = {"pooled": 0, "per_step": 1}[norm["statistics"]]
        axes = tuple(range(first, x_seq.ndim - 1))
        centred = x_seq - x_seq.mean(axes, keepdims=True)
        variance = (centred * centred).mean(axes, keepdims=True)
    else:
        centred, variance = x_seq - running_mean, as_dual(running_var)
    return centred / sqrt(variance + norm["eps"]) * gamma * norm["scale"] + beta


def cross_entropy(logits, labels):
    """Compute the mean cross-entropy of logits (N, K) for integer labels (N,)."""
    logits = as_dual(logits)
    shifted = logits - logits.max_constant(axis=1, keepdims=True)
    chosen = shifted[np.arange(len(labels)), np.asarray(labels)]
    return (log(exp(shifted).sum(axis=1)) - chosen).mean()


def objective(branches, labels, side, branch_sum):
    """Compute the loss (Eq. 10, D13); the main branch is last, and `side` weights the others."""
    *others, main = branches
    if branch_sum == "logits":
        return cross_entropy(main + side * sum(others, 0.0), labels)
    if branch_sum == "losses":
        losses = [cross_entropy(branch, labels) for branch in others]
        return cross_entropy(main, labels) + side * sum(losses, 0.0)
    raise ValueError(f"unknown branch_sum {branch_sum!r}")


@dataclass
class _Run:
    """The inputs of one forward pass that its layers read, and the spikes of each layer."""

    net: dict
    params: dict
    buffers: dict
    training: bool
    spikes: dict = field(default_factory=dict)


def _neurons(run, name, c_seq):
    neuron = run.net["neuron"]
    _, run.spikes[name] = lif(c_seq, 0.0, neuron["tau"], neuron["v_th"], neuron)  # D6
    return run.spikes[name]


def _conv_bn(run, conv_name, bn_name, x, stride, padding):
    x = conv(x, run.params[f"{conv_name}.weight"], stride, padding)
    gamma, beta = run.params[f"{bn_name}.weight"], run.params[f"{bn_name}.bias"]
    mean = variance = None
    if not run.training:
        mean, variance = (
            run.buffers[f"{bn_name}.running_mean"],
            run.buffers[f"{bn_name}.running_var"],
        )
    return batchnorm(x, gamma, beta, mean, variance, run.net["norm"], run.training)


def _stem(run, x):
    stem = run.net["stem"]
    for i in range(stem["convs"]):
        stride = stem["stride"] if i == 0 else 1
        x = _conv_bn(run, f"stem.conv{i}", f"stem.bn{i}", x, stride, stem["kernel"] // 2)
        x = _neurons(run, f"stem.lif{i}", x)
    return avgpool(x, *stem["pool"]) if stem["pool"] else x


def _skip(run, name, x, stride, width):
    """Apply the skip connection (D9): identity, or a projection without neurons."""
    if stride == 1 and x.shape[-1] == width:
        return x
    if run.net["downsample"] == "avgpool" and stride == 2:
        x, stride = avgpool(x, 2, 2, 0), 1
    return _conv_bn(run, f"{name}.skip.conv", f"{name}.skip.bn", x, stride, 0)


def _block(run, name, x, stride, width):
    """Apply a residual block (Eq. 5, D9): neurons fire on the sum of both paths."""
    inner = _conv_bn(run, f"{name}.conv1", f"{name}.bn1", x, stride, 1)
    inner = _neurons(run, f"{name}.lif1", inner)
    inner = _conv_bn(run, f"{name}.conv2", f"{name}.bn2", inner, 1, 1)
    skip = _skip(run, name, x, stride, width)
    if inner.shape != skip.shape:
        raise ValueError(f"{name}: paths of shapes {inner.shape} and {skip.shape}")
    return _neurons(run, f"{name}.lif2", inner + skip)


def _fc(run, name, x):
    return linear(x, run.params[f"{name}.weight"], run.params[f"{name}.bias"])


def _readout(run, name, features):
    """Compute logits (N, K) of features (T, N, C), as mean or sum over the steps (D10)."""
    logits = _fc(run, name, features)
    return {"mean": logits.mean, "sum": logits.sum}[run.net["readout"]](axis=0)


def _branch_name(net, s, b):
    """Return the name of the side branch (D11) after block b of stage s, or None."""
    last_block, last_stage = b == net["depths"][s - 1] - 1, s == len(net["depths"])
    if net["branches"] == "stage" and last_block and not last_stage:
        return f"branch.stage{s}.fc"
    if net["branches"] == "block" and not (last_block and last_stage):
        return f"branch.stage{s}.block{b}.fc"
    return None


def network(net, params, buffers, x_seq, training=True):
    """Run the whole network on x_seq (T, N, H, W, C), with Duals by name as `params`.

    Returns {"branches": [Dual (N, K)], "spikes": {layer: Dual (T, ...)}}, the main branch last.
    """
    run = _Run(net, params, buffers, training)
    x, branches = _stem(run, as_dual(x_seq)), []
    for s, (depth, width) in enumerate(zip(net["depths"], net["widths"], strict=True), start=1):
        for b in range(depth):
            x = _block(run, f"stage{s}.block{b}", x, 2 if s > 1 and b == 0 else 1, width)
            if name := _branch_name(net, s, b):
                branches.append(_readout(run, name, global_avgpool(x)))
    features = global_avgpool(x)
    if net["hidden"]:
        features = _neurons(run, "head.lif", _fc(run, "head.hidden", features))  # D20
    branches.append(_readout(run, "head.fc", features))
    return {"branches": branches, "spikes": run.spikes}


def directional(net, params, buffers, x_seq, labels, side, branch_sum, directions, training=True):
    """Compute the loss and its derivative along `directions` (name -> array; default 0)."""
    if unknown := set(directions) - set(params):
        raise ValueError(f"directions of unknown parameters {sorted(unknown)}")
    duals = {name: Dual(value, directions.get(name)) for name, value in params.items()}
    out = network(net, duals, buffers, x_seq, training)
    loss = objective(out["branches"], labels, side, branch_sum)
    return {
        "loss": float(loss.value),
        "derivative": float(loss.tangent),
        "branches": [branch.value for branch in out["branches"]],
        "spikes": {name: spikes.value for name, spikes in out["spikes"].items()},
    }
