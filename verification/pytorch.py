"""`refsnn.pytorch` on refsnn's arrays, in float64, with gradients by autograd.

Sequences are (T, N, H, W, C) or (T, N), convolutions' weights (kh, kw, C_in, C_out), linear
layers' (in, out).
"""

import numpy as np
import torch
from torch.nn import functional as F

from refsnn.pytorch import (
    LIF,
    BatchNorm,
    Network,
    decay_groups,
    objective,
    side_coefficient,
    to_numpy,
    to_torch,
)

# on small arrays the other threads would wait busily, for a core that another process has
torch.set_num_threads(1)


def tensor(array, requires_grad=False):
    """Copy an array into a float64 tensor with PyTorch's order of axes."""
    return to_torch(np.asarray(array, dtype=float)).requires_grad_(requires_grad)


def all_to_numpy(tensors):
    """Copy tensors by name into arrays with refsnn's order of axes."""
    return {name: to_numpy(value) for name, value in tensors.items()}


def build(net, steps, params, buffers):
    """Return the network with these parameters and running statistics."""
    model = Network(net, steps).double()
    model.load_state_dict({name: tensor(value) for name, value in (params | buffers).items()})
    return model


def statistics(model):
    """Return the running statistics by name."""
    return all_to_numpy(
        {name: x for name, x in model.named_buffers() if not name.endswith("num_batches_tracked")}
    )


def parameter_shapes(net):
    """Return every parameter's shape by name, in refsnn's order of axes."""
    with torch.device("meta"):
        model = Network(net, 1)
    return {
        name: to_numpy(torch.empty_like(parameter, device="cpu")).shape
        for name, parameter in model.named_parameters()
    }


def run(net, params, buffers, x_seq, labels, side, branch_sum="logits", training=True):
    """Compute one forward and backward pass on x_seq (T, N, H, W, C) and labels (N,)."""
    steps, norms = len(x_seq), {}
    model = build(net, steps, params, buffers).train(training)
    neurons = {name: part for name, part in model.named_modules() if isinstance(part, LIF)}
    for neuron in neurons.values():
        neuron.record = True

    def keep(name):
        return lambda module, args, y: norms.update({name: y.unflatten(0, (steps, -1))})

    for name, part in model.named_modules():
        if isinstance(part, BatchNorm):
            part.register_forward_hook(keep(name))
    branches = list(model(tensor(x_seq)).values())
    loss = objective(branches, torch.tensor(np.asarray(labels)), side, branch_sum)
    loss.backward()
    states = {name: neuron.states for name, neuron in neurons.items()}
    return {
        "branches": [b.detach().numpy() for b in branches],
        "spikes": {name: over_time(s.o for s in kept) for name, kept in states.items()},
        "u_pre": {name: over_time(s.u_pre for s in kept) for name, kept in states.items()},
        "norms": all_to_numpy(norms),
        "loss": loss.item(),
        "grads": {
            name: to_numpy(torch.zeros_like(p) if p.grad is None else p.grad)
            for name, p in model.named_parameters()
        },
        "buffers": statistics(model),
    }


def over_time(steps):
    """Copy T tensors (N, ...) into an array (T, N, ...) with refsnn's order of axes."""
    return to_numpy(torch.stack(list(steps)))


def lif(c_seq, u0, neuron, do_seq):
    """Return LIF on c_seq (T, n) from u0 (n,), and the gradients for do_seq (T, n) (Eq. 1-3)."""
    c, u, tau, v_th = (
        torch.tensor(np.asarray(value, dtype=float), requires_grad=True)
        for value in (c_seq, u0, neuron["tau"], neuron["v_th"])
    )
    layer = LIF(len(c_seq), **neuron | {"tau": tau, "v_th": v_th})
    layer.record = True
    o = layer(c.flatten(0, 1), u).unflatten(0, c.shape)
    u_pre = torch.stack([state.u_pre for state in layer.states])
    grads = torch.autograd.grad(o, (c, u, tau, v_th), torch.tensor(do_seq, dtype=c.dtype))
    names = ("o_seq", "u_pre_seq", "dc_seq", "du0", "dtau", "dv_th")
    found = (o, u_pre, *grads)
    return {name: value.detach().numpy() for name, value in zip(names, found, strict=True)}


def surrogate_by_autograd(u_pre, neuron):
    """Return the slope at u_pre as autograd's derivative of the surrogate's primitive (Eq. 4).

    On the rectangle's edge autograd takes the inside, whatever neuron["surrogate_edge"] says.
    """
    u = tensor(u_pre, requires_grad=True)
    kind, shape, v_th = neuron["surrogate"], neuron["surrogate_shape"], neuron["v_th"]
    x = u - v_th
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
    elif kind == "sigmoid":
        primitive = torch.sigmoid(shape * x)
    elif kind == "atan":
        primitive = torch.atan(torch.pi * shape * x / 2) / torch.pi
    elif kind == "fast_sigmoid":
        primitive = F.softsign(shape * x) / shape
    elif kind == "softsign":
        primitive = F.softsign(shape * x) / 2
    elif kind == "super_spike":
        primitive = shape * F.softsign(x)
    elif kind == "piecewise_quadratic":
        z = torch.clamp(shape * x, -1, 1)
        primitive = z - z * z.abs() / 2
    elif kind == "exponential":
        above, below = torch.exp(-shape * x.clamp(min=0)), torch.exp(shape * x.clamp(max=0))
        primitive = torch.where(x >= 0, 1 - above / 2, below / 2)
    elif kind == "gaussian":
        primitive = torch.distributions.Normal(0.0, shape).cdf(x)
    elif kind == "dspike":  # clamp passes the gradient on its edges, as M17 does
        z = torch.clamp(x, -0.5, 0.5)
        primitive = torch.tanh(shape * z) / (2 * np.tanh(shape / 2))
    elif kind == "rectifier":
        above = (x.abs().clamp(min=0.5) + 0.5) ** (1 / 3) - 0.5
        psi = torch.where(x.abs() <= 0.5, torch.tanh(3 * x) / (2 * np.tanh(1.5)), x.sign() * above)
        primitive = torch.clamp(psi / shape, -0.5, 0.5)
    else:
        raise ValueError(kind)
    return torch.autograd.grad(primitive.sum(), u)[0].numpy()


def batchnorm(x_seq, gamma, beta, running_mean, running_var, norm, dy_seq, training):
    """Return batch norm of x_seq (T, N, H, W, C), and its gradients for dy_seq (D8, D25)."""
    layer = BatchNorm(len(gamma), len(x_seq), **norm).double().train(training)
    numbers = (gamma, beta, running_mean, running_var)
    names = ("weight", "bias", "running_mean", "running_var")
    layer.load_state_dict({n: tensor(value) for n, value in zip(names, numbers, strict=True)})
    x = tensor(x_seq, requires_grad=True)
    y = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    grads = torch.autograd.grad(y, (x, layer.weight, layer.bias), tensor(dy_seq))
    names = ("y_seq", "dx_seq", "dgamma", "dbeta", "running_mean", "running_var")
    found = (y, *grads, layer.running_mean, layer.running_var)
    return all_to_numpy(dict(zip(names, found, strict=True)))


def tet(b_seq, labels, lam, phi):
    """Return TET's loss of logits (T, N, K), and its gradient."""
    b = tensor(b_seq, requires_grad=True)
    flat, repeated = b.flatten(0, 1), torch.as_tensor(labels).repeat(len(b_seq))
    pull = F.mse_loss(b, torch.full_like(b, phi))
    loss = (1 - lam) * F.cross_entropy(flat, repeated) + lam * pull
    return loss.item(), torch.autograd.grad(loss, b)[0].numpy()


def progress(settings, i):
    """Return the fraction of the training that is over at iteration i = 1, 2, ... (D16)."""
    total = settings["total"]
    if settings["lam_clock"] == "epoch":
        per_epoch = settings["batches_per_epoch"]
        i, total = (i - 1) // per_epoch + 1, -(-total // per_epoch)
    return i / total


def make_optimizer(params, settings):
    """Make SGD or AdamW (D17)."""
    groups = decay_groups(params, settings["weight_decay"], settings["decay_on"])
    if settings["optimizer"] == "sgd":
        return torch.optim.SGD(groups, lr=settings["lr"], momentum=settings["momentum"])
    if settings["optimizer"] == "adamw":
        return torch.optim.AdamW(groups, lr=settings["lr"])
    raise ValueError(settings["optimizer"])


def train(net, params, buffers, batches, settings):
    """Run Algorithm 1 on batches [(images (N, H, W, C), labels (N,)), ...], one iteration each."""
    model = build(net, settings["steps"], params, buffers)
    optimizer = make_optimizer(model.parameters(), settings)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings["total"])
    weights = settings["lam"], settings["shortcut_weight"]
    losses, sides, lrs = [], [], []
    for i, (images, labels) in enumerate(batches, 1):
        x_seq = tensor(np.stack([images] * settings["steps"]))  # D7
        labels = torch.tensor(np.asarray(labels), dtype=torch.int64)
        sides.append(side_coefficient(settings["method"], progress(settings, i), *weights))
        lrs.append(optimizer.param_groups[0]["lr"])
        loss = objective(list(model(x_seq).values()), labels, sides[-1], settings["branch_sum"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    trained = {"params": all_to_numpy(dict(model.named_parameters())), "buffers": statistics(model)}
    return trained | {"losses": losses, "sides": sides, "lrs": lrs}
