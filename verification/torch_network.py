"""The networks in PyTorch: its own operators, and autograd for everything but the firing.

Arrays in and out are NumPy: sequences (T, N, H, W, C) or (T, N, features), convolutions
(kh, kw, C_in, C_out), fully connected weights (in, out). Inside they have PyTorch's layout.
"""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

# Layouts. The number of axes tells what an array is: 5 a sequence of images, 4 a convolution,
# 2 a fully connected weight; all others are the same on both sides.
TO_TORCH = {5: (0, 1, 4, 2, 3), 4: (3, 2, 0, 1), 2: (1, 0)}
TO_OURS = {5: (0, 1, 3, 4, 2), 4: (2, 3, 1, 0), 2: (1, 0)}


def turned(tensor, axes):
    return tensor.permute(axes.get(tensor.ndim, tuple(range(tensor.ndim))))


def plain(array):
    """A tensor with a copy of the array, axes as they are; integers become float64."""
    array = np.array(array, order="C")
    return torch.from_numpy(array if array.dtype.kind == "f" else array.astype(np.float64))


def to_torch(array):
    return turned(plain(array), TO_TORCH).contiguous()


def to_ours(tensor):
    return np.array(turned(tensor.detach(), TO_OURS).numpy(), order="C")


def all_to_torch(arrays, requires_grad=False):
    return {name: to_torch(a).requires_grad_(requires_grad) for name, a in arrays.items()}


def all_to_ours(tensors):
    return {name: to_ours(tensor) for name, tensor in tensors.items()}


def slope(u_pre, v_th, neuron):
    """The surrogate's do/du_pre (Eq. 4, D4, D5)."""
    kind, shape, x = neuron["surrogate"], neuron["surrogate_shape"], u_pre - v_th
    if kind == "tanh":
        return shape * (1 - torch.tanh(x) ** 2)
    if kind == "tanh_literal":
        return shape * (1 - torch.tanh(x)) ** 2
    if kind == "rectangular":
        inside = (
            x.abs() <= shape / 2 if neuron["surrogate_edge"] == "inside" else x.abs() < shape / 2
        )
        return inside.to(x.dtype) / shape
    if kind == "triangular":
        return shape * (1 - (u_pre / v_th - 1).abs()).clamp(min=0)
    raise ValueError(kind)


class Fire(torch.autograd.Function):
    """o = [u_pre > v_th] (Eq. 2, D2); backward do/du_pre = h and do/dv_th = -h."""

    @staticmethod
    def forward(ctx, u_pre, v_th, neuron):
        ctx.save_for_backward(u_pre, v_th)
        ctx.neuron = neuron
        return (u_pre >= v_th if neuron["fire_at_threshold"] else u_pre > v_th).to(u_pre.dtype)

    @staticmethod
    def backward(ctx, do):
        du_pre = do * slope(*ctx.saved_tensors, ctx.neuron)
        return du_pre, -du_pre.sum(), None


def lif_steps(c_seq, u, tau, v_th, neuron):
    """Spikes and u_pre, shaped as c_seq (T, ...), from u before the first step (Eq. 1, Eq. 2)."""
    spikes, potentials = [], []
    for c in c_seq:
        u_pre = tau * u + c
        o = Fire.apply(u_pre, v_th, neuron)
        u = u_pre * (1 - (o.detach() if neuron["reset_gradient"] == "detached" else o))  # D3
        spikes.append(o)
        potentials.append(u_pre)
    return torch.stack(spikes), torch.stack(potentials)


def lif(c_seq, u0, neuron, do_seq):
    """LIF on c_seq (T, ...) from u0 (...), and the gradients for do_seq (T, ...) (Eq. 1-3)."""
    c = plain(c_seq).requires_grad_()
    u = plain(u0).to(c.dtype).requires_grad_()
    tau, v_th = (
        torch.tensor(neuron[name], dtype=c.dtype, requires_grad=True) for name in ("tau", "v_th")
    )
    o, u_pre = lif_steps(c, u, tau, v_th, neuron)
    grads = torch.autograd.grad(o, (c, u, tau, v_th), plain(do_seq).to(c.dtype))
    names = ("o_seq", "u_pre_seq", "dc_seq", "du0", "dtau", "dv_th")
    found = (o, u_pre, *grads)
    return {name: np.array(a.detach().numpy()) for name, a in zip(names, found, strict=True)}


def surrogate_by_autograd(u_pre, neuron):
    """The slope at u_pre as autograd's derivative of the surrogate's primitive (Eq. 4).

    On the rectangle's edge autograd takes the inside, whatever neuron["surrogate_edge"] says.
    """
    u = plain(u_pre).requires_grad_()
    kind, shape, v_th, x = (
        neuron["surrogate"],
        neuron["surrogate_shape"],
        neuron["v_th"],
        u - neuron["v_th"],
    )
    if kind == "tanh":
        primitive = shape * (1 + torch.tanh(x))
    elif kind == "tanh_literal":
        # x - ln cosh x = ln 2 - softplus(-2x); softplus is cut at 20 by default, too coarse here.
        rest = 2 * (np.log(2) - F.softplus(-2 * x, threshold=80))
        primitive = shape * (rest - torch.tanh(x))
    elif kind == "rectangular":
        primitive = torch.clamp(x / shape + 0.5, 0, 1)
    elif kind == "triangular":
        z = torch.clamp(x / v_th, -1, 1)
        primitive = shape * v_th * (0.5 + z - z * z.abs() / 2)
    else:
        raise ValueError(kind)
    return torch.autograd.grad(primitive.sum(), u)[0].numpy()


def merged(operator, x_seq, *args, **settings):
    """Applies an operator for (N, ...) to x_seq (T, N, ...), T and N merged."""
    return operator(x_seq.flatten(0, 1), *args, **settings).unflatten(0, x_seq.shape[:2])


def norm_steps(x_seq, gamma, beta, mean, var, norm, training):
    """Batch norm of x_seq (T, N, C, H, W); moves the running mean and var in place (D8, D25)."""
    settings = {"training": training, "momentum": norm["momentum"], "eps": norm["eps"]}
    args = (mean, var, gamma * norm["scale"], beta)
    if norm["statistics"] == "per_step":
        return torch.stack([F.batch_norm(x, *args, **settings) for x in x_seq])
    return merged(F.batch_norm, x_seq, *args, **settings)


def batchnorm(x_seq, gamma, beta, running_mean, running_var, norm, dy_seq, training):
    """Batch norm of x_seq (T, N, H, W, C) and its gradients for dy_seq, of the same shape (D8)."""
    inputs = [to_torch(a).requires_grad_() for a in (x_seq, gamma, beta)]
    mean, var = to_torch(running_mean), to_torch(running_var)
    y = norm_steps(*inputs, mean, var, norm, training)
    grads = torch.autograd.grad(y, inputs, to_torch(dy_seq))
    names = ("y_seq", "dx_seq", "dgamma", "dbeta", "running_mean", "running_var")
    return all_to_ours(dict(zip(names, (y, *grads, mean, var), strict=True)))


def blocks(net):
    """(name, channels in, channels out, stride) of every residual block, first to last (D9)."""
    found, c_in = [], net["stem"]["width"]
    for stage, (depth, width) in enumerate(zip(net["depths"], net["widths"], strict=True), 1):
        for index in range(depth):
            stride = 2 if stage > 1 and index == 0 else 1
            found.append((f"stage{stage}.block{index}", c_in, width, stride))
            c_in = width
    return found


def side_branches(net):
    """{name of a block: name of the side branch on its output} (D11)."""
    if net["branches"] == "none":
        return {}
    names = [name for name, *_ in blocks(net)]
    if net["branches"] == "block":
        return {name: f"branch.{name}" for name in names[:-1]}
    stages = range(1, len(net["depths"]))
    return {f"stage{s}.block{net['depths'][s - 1] - 1}": f"branch.stage{s}" for s in stages}


def modules(net):
    """{name of a layer: PyTorch's module of its shape}; none of them is ever run."""
    made, stem, sides, c_out = {}, net["stem"], side_branches(net), net["in_channels"]

    def conv_bn(conv, bn, c_in, c_out, kernel):
        made[conv], made[bn] = nn.Conv2d(c_in, c_out, kernel, bias=False), nn.BatchNorm2d(c_out)

    for i in range(stem["convs"]):
        conv_bn(f"stem.conv{i}", f"stem.bn{i}", c_out, stem["width"], stem["kernel"])
        c_out = stem["width"]
    for name, c_in, c_out, stride in blocks(net):
        conv_bn(f"{name}.conv1", f"{name}.bn1", c_in, c_out, 3)
        conv_bn(f"{name}.conv2", f"{name}.bn2", c_out, c_out, 3)
        if stride != 1 or c_in != c_out:
            conv_bn(f"{name}.skip.conv", f"{name}.skip.bn", c_in, c_out, 1)
        if name in sides:
            made[f"{sides[name]}.fc"] = nn.Linear(c_out, net["num_classes"])
    if net["hidden"]:
        made["head.hidden"] = nn.Linear(c_out, net["hidden"])
    made["head.fc"] = nn.Linear(net["hidden"] or c_out, net["num_classes"])
    return made


def parameter_shapes(net):
    """{name of a parameter: its shape in our layout}."""
    with torch.device("meta"):
        layers = modules(net)
    return {
        f"{layer}.{name}": tuple(turned(parameter, TO_OURS).shape)
        for layer, module in layers.items()
        for name, parameter in module.named_parameters()
    }


# The forward pass. `now` holds one pass: net, params, buffers, training and the recorded layers.


def conv_norm(now, conv, bn, x_seq, stride, padding):
    """Convolution and batch norm of (T, N, C, H, W), by their names."""
    weight, gamma, beta = (now.params[k] for k in (f"{conv}.weight", f"{bn}.weight", f"{bn}.bias"))
    mean, var = now.buffers[f"{bn}.running_mean"], now.buffers[f"{bn}.running_var"]
    y_seq = merged(F.conv2d, x_seq, weight, stride=stride, padding=padding)
    now.norms[bn] = norm_steps(y_seq, gamma, beta, mean, var, now.net["norm"], now.training)
    return now.norms[bn]


def lif_layer(now, name, c_seq):
    neuron, u = now.net["neuron"], torch.zeros_like(c_seq[0])  # D6
    tau, v_th = (torch.tensor(neuron[key], dtype=c_seq.dtype) for key in ("tau", "v_th"))
    now.spikes[name], now.u_pre[name] = lif_steps(c_seq, u, tau, v_th, neuron)
    return now.spikes[name]


def linear(now, name, x_seq):
    return F.linear(x_seq, now.params[f"{name}.weight"], now.params[f"{name}.bias"])


def residual_block(now, name, x_seq, c_in, c_out, stride):
    """o = LIF(f(x) + skip(x)) on (T, N, C, H, W) (Eq. 5, D9)."""
    y = conv_norm(now, f"{name}.conv1", f"{name}.bn1", x_seq, stride, 1)
    y = lif_layer(now, f"{name}.lif1", y)
    y = conv_norm(now, f"{name}.conv2", f"{name}.bn2", y, 1, 1)
    skip = x_seq
    if stride != 1 or c_in != c_out:
        if now.net["downsample"] == "avgpool" and stride == 2:
            skip, stride = merged(F.avg_pool2d, skip, 2, stride=2), 1
        skip = conv_norm(now, f"{name}.skip.conv", f"{name}.skip.bn", skip, stride, 0)
    if y.shape != skip.shape:  # odd sizes with "avgpool"; the sum might broadcast in silence
        raise ValueError(f"{name}: {tuple(y.shape)} + {tuple(skip.shape)}")
    return lif_layer(now, f"{name}.lif2", y + skip)


def head(now, name, x_seq):
    """Logits (N, K) of the branch `name` from spikes (T, N, C, H, W) (D10, D12, D20)."""
    y = x_seq.mean((3, 4))
    if name == "head" and now.net["hidden"]:
        y = lif_layer(now, "head.lif", linear(now, "head.hidden", y))
    y = linear(now, f"{name}.fc", y)
    return y.sum(0) if now.net["readout"] == "sum" else y.mean(0)


def forward(net, params, buffers, x_seq, training):
    """One pass over x_seq (T, N, C, H, W); `branches` has the logits, the main branch last."""
    now = SimpleNamespace(net=net, params=params, buffers=buffers, training=training)
    now.spikes, now.u_pre, now.norms, now.branches = {}, {}, {}, []
    stem, y = net["stem"], x_seq
    for i in range(stem["convs"]):
        stride = stem["stride"] if i == 0 else 1
        y = conv_norm(now, f"stem.conv{i}", f"stem.bn{i}", y, stride, stem["kernel"] // 2)
        y = lif_layer(now, f"stem.lif{i}", y)
    if stem["pool"]:
        y = merged(F.avg_pool2d, y, *stem["pool"], count_include_pad=True)
    sides = side_branches(net)
    for name, c_in, c_out, stride in blocks(net):
        y = residual_block(now, name, y, c_in, c_out, stride)
        if name in sides:
            now.branches.append(head(now, sides[name], y))
    now.branches.append(head(now, "head", y))
    return now


def objective(branches, labels, side, branch_sum):
    """The loss of the branches' logits (N, K), the main one last (Eq. 6, Eq. 10, D13, D14)."""
    *sides, main = branches
    if branch_sum == "losses":
        return F.cross_entropy(main, labels) + side * sum(F.cross_entropy(b, labels) for b in sides)
    return F.cross_entropy(main + side * sum(sides), labels)


def run(net, params, buffers, x_seq, labels, side, branch_sum="logits", training=True):
    """One forward and backward pass on x_seq (T, N, H, W, C) and labels (N,).

    `layer_grads` is Eq. 3's dL/do from the layers above; the path of the reset is not in it.
    """
    params, buffers = all_to_torch(params, requires_grad=True), all_to_torch(buffers)
    labels = torch.tensor(np.asarray(labels), dtype=torch.int64)
    now = forward(net, params, buffers, to_torch(x_seq), training)
    loss = objective(now.branches, labels, side, branch_sum)
    wanted = params | now.spikes
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    grads = {
        name: to_ours(torch.zeros_like(tensor) if grad is None else grad)
        for (name, tensor), grad in zip(wanted.items(), found, strict=True)
    }
    return {
        "branches": [b.detach().numpy().copy() for b in now.branches],
        "spikes": all_to_ours(now.spikes),
        "u_pre": all_to_ours(now.u_pre),
        "norms": all_to_ours(now.norms),
        "loss": loss.item(),
        "grads": {name: grads[name] for name in params},
        "buffers": all_to_ours(buffers),
        "layer_grads": {name: grads[name] for name in now.spikes},
    }


def side_coefficient(settings, i):
    """The side branches' coefficient at iteration i = 1, 2, ... (Eq. 6, Eq. 10, D15, D16)."""
    if settings["method"] == "vanilla":
        return 0.0
    if settings["method"] == "shortcut":
        return settings["shortcut_weight"]
    if settings["method"] != "evolutionary":
        raise ValueError(settings["method"])
    total = settings["total"]
    if settings["lam_clock"] == "epoch":
        per_epoch = settings["batches_per_epoch"]
        i, total = (i - 1) // per_epoch + 1, -(-total // per_epoch)
    return settings["lam"] * (1 - i / total)


def make_optimizer(params, settings):
    """SGD or AdamW (D17); BN's parameters and the biases are the ones with a single axis."""
    decay = settings["weight_decay"]
    groups = [
        {
            "params": [p],
            "weight_decay": decay if settings["decay_on"] == "all" or p.ndim > 1 else 0.0,
        }
        for p in params.values()
    ]
    if settings["optimizer"] == "sgd":
        return torch.optim.SGD(groups, lr=settings["lr"], momentum=settings["momentum"])
    if settings["optimizer"] == "adamw":
        return torch.optim.AdamW(groups, lr=settings["lr"])
    raise ValueError(settings["optimizer"])


def train(net, params, buffers, batches, settings):
    """Algorithm 1 on batches [(images (N, H, W, C), labels (N,)), ...], one iteration each."""
    params, buffers = all_to_torch(params, requires_grad=True), all_to_torch(buffers)
    optimizer = make_optimizer(params, settings)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings["total"])
    losses, sides, lrs = [], [], []
    for i, (images, labels) in enumerate(batches, 1):
        x_seq = to_torch(np.stack([images] * settings["steps"]))  # D7
        labels = torch.tensor(np.asarray(labels), dtype=torch.int64)
        sides.append(side_coefficient(settings, i))
        lrs.append(optimizer.param_groups[0]["lr"])
        now = forward(net, params, buffers, x_seq, training=True)
        loss = objective(now.branches, labels, sides[-1], settings["branch_sum"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    trained = {"params": all_to_ours(params), "buffers": all_to_ours(buffers)}
    return trained | {"losses": losses, "sides": sides, "lrs": lrs}
