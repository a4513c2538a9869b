"""Networks of the published methods in PyTorch, in float64; autograd computes the gradients.

Blocks, neurons, batch norms and losses are written from their papers' equations. A network is a
plain dict, as `refsnn.pytorch.Network` takes it, with these keys too: block, merge_scale,
norm_identity, neuron_model, neuron_options, norm_model, loss and potential_loss. Axes are in
refsnn's order: sequences (T, N, H, W, C) or (T, N, C), convolutions' weights
(kh, kw, C_in, C_out), linear layers' (in, out).
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from refsnn.pytorch import LIF, Fire, blocks, side_coefficient

#: these keys with the values of the paper's network
PLAIN = {
    "block": "basic",  # or sew_add, sew_and, sew_iand, ms
    "merge_scale": 1.0,
    "norm_identity": False,
    "neuron_model": "lif",  # or plif, glif, diet, mpbn, real_spike
    "neuron_options": {},
    "norm_model": "bn",  # or tebn, bntt, psp
    "psp_root": True,
    "loss": None,  # or TET's {lam, phi}
    "potential_loss": None,  # or {kind: im or mpd, lam, half_width}
}


class Layer(NamedTuple):
    """A layer of neurons at all steps; each field is (T, N, ..., C)."""

    u_pre: torch.Tensor  # before firing
    x: torch.Tensor  # what is fired: where it is above 0
    o: torch.Tensor  # spikes, 0 or 1


def fire(x, neuron, v_th):
    """Return spikes of x; backward, with the surrogate's slope for a threshold of `v_th`."""
    names = ("surrogate", "surrogate_shape", "surrogate_edge")
    slope = LIF(1, v_th=v_th, **{name: neuron[name] for name in names}).slope
    return Fire.apply(x, slope, neuron["fire_at_threshold"])


def in_reset(o, neuron):
    """Return spikes as the reset takes them."""
    return o.detach() if neuron["reset_gradient"] == "detached" else o


def layer(steps):
    """Stack each step's (u_pre, x, o)."""
    return Layer(*map(torch.stack, zip(*steps, strict=True)))


def lif(c_seq, tau, neuron, normalise=lambda u_pre: u_pre):
    """Fire the potential, or MPBN's normalised one; the potential that is kept is as it was."""
    u, steps, v_th = torch.zeros_like(c_seq[0]), [], neuron["v_th"]
    amount = neuron["reset_amount"]
    amount = v_th if amount in ("v_th", None) else amount
    for c in c_seq:
        u_pre = tau * u + c
        x = normalise(u_pre) - v_th
        o = fire(x, neuron, v_th)
        steps.append((u_pre, x, o))
        kept = in_reset(o, neuron)
        u = u_pre - amount * kept if neuron["reset"] == "subtract" else u_pre * (1 - kept)
    return layer(steps)


def plif(c_seq, own, neuron, input_decay=True):
    """Learn the leak 1 - s of a layer, s = sigmoid(w), which weights the input too."""
    s = torch.sigmoid(own["w"])
    return lif(s * c_seq if input_decay else c_seq, 1 - s, neuron)


def glif(c_seq, own, neuron):
    """Learn gates between leaks, inputs and resets, and all their constants, by channel."""
    names = ("alpha", "beta", "gamma", "tau", "v_th", "l", "r", "g")
    learnt = [torch.sigmoid(own[name]) for name in names]
    alpha, beta, gamma, tau, v_th, leak, amount, g_seq = learnt
    u = o = torch.zeros_like(c_seq[0])
    steps = []
    for c, g in zip(c_seq, g_seq, strict=True):
        leaked = (1 - alpha * (1 - tau)) * u * (1 - gamma * o) - (1 - alpha) * leak
        u = leaked + (1 - beta * (1 - g)) * c - (1 - gamma) * amount * o
        x = u - v_th
        spikes = fire(x, neuron, v_th.detach())
        steps.append((u, x, spikes))
        o = in_reset(spikes, neuron)
    return layer(steps)


def diet(c_seq, own, neuron, reset_leaks=True):
    """Learn leak and threshold of a layer; the surrogate is a function of u_pre/v_th - 1."""
    leak, v_th = own["leak"], own["v_th"]
    u_pre = kept = torch.zeros_like(c_seq[0])
    steps = []
    for c in c_seq:
        taken = v_th * kept
        u_pre = (leak * (u_pre - taken) if reset_leaks else leak * u_pre - taken) + c
        z = u_pre / v_th - 1
        o = fire(z, neuron, 1.0)
        steps.append((u_pre, z, o))
        kept = in_reset(o, neuron)
    return layer(steps)


def batch_norm(x, weight, bias, running, training, eps, momentum):
    """Normalise each channel of x (..., C); training moves the running mean and variance."""
    flat = x.reshape(-1, x.shape[-1])
    y = F.batch_norm(flat, *running, weight, bias, training, momentum, eps)
    return y.reshape(x.shape)


def on_images(function, x_seq):
    """Apply a function of (N, C, H, W) to every step of x_seq (T, N, H, W, C)."""
    y = function(x_seq.flatten(0, 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return y.unflatten(0, x_seq.shape[:2])


class Pass:
    """A forward pass: what it computes with, and what it has computed."""

    def __init__(self, net, params, buffers, training):
        self.net, self.params, self.training = net, params, training
        self.buffers = {name: torch.tensor(np.array(x)) for name, x in buffers.items()}
        self.layers = {}  # Layer by name
        self.steepest = (
            1.0  # largest 1/deviation of a batch norm, or of potentials for `distribution`
        )

    def own(self, name):
        """Return the parameters of a layer by their own names."""
        start = f"{name}."
        known = self.params.items()
        return {key.removeprefix(start): p for key, p in known if key.startswith(start)}

    def running(self, name, step=...):
        """Return a batch norm's running mean and variance, or views of those of one step."""
        return tuple(self.buffers[f"{name}.running_{which}"][step] for which in ("mean", "var"))

    def normalised(self, x, weight, bias, running, eps, momentum):
        """Return `batch_norm` of x, and keep how much its backward pass magnifies rounding."""
        over = tuple(range(x.ndim - 1))
        var = x.detach().var(over, correction=0) if self.training else running[1]
        self.steepest = max(self.steepest, float(((var + eps) ** -0.5).max()))
        return batch_norm(x, weight, bias, running, self.training, eps, momentum)

    def norm(self, x_seq, name, factor=1.0):
        """Return the method's batch norm of x_seq (T, N, H, W, C), its gamma times a factor."""
        own, given = self.own(name), self.net["norm"]
        if self.net["norm_model"] == "psp":
            return x_seq  # what the convolution took is normalised
        weight = own["weight"] * (given["scale"] * factor)
        if self.net["norm_model"] == "bntt":
            steps = [
                self.normalised(x, weight[t], None, self.running(name, t), 1e-4, given["momentum"])
                for t, x in enumerate(x_seq)
            ]
            return torch.stack(steps)
        normalised = partial(
            self.normalised,
            weight=weight,
            bias=own["bias"],
            running=self.running(name),
            eps=given["eps"],
            momentum=given["momentum"],
        )
        per_step = given["statistics"] == "per_step"
        y = torch.stack(list(map(normalised, x_seq))) if per_step else normalised(x_seq)
        return own["p"].view(-1, 1, 1, 1, 1) * y if self.net["norm_model"] == "tebn" else y

    def conv(self, x_seq, name, stride=1):
        """Return a convolution that keeps sizes but for its stride."""
        if self.net["norm_model"] == "psp":
            x_seq = self.without_mean(x_seq, name.replace("conv", "bn"))
        w = self.params[f"{name}.weight"]
        padding = w.shape[0] // 2
        kernel = w.permute(3, 2, 0, 1)
        return on_images(lambda x: F.conv2d(x, kernel, None, stride, padding), x_seq)

    def without_mean(self, x_seq, name):
        """Return x_seq divided by the root of its second moment, or by this itself, times gamma."""
        given, (_, running) = self.net["norm"], self.running(name)
        moment = running.clone()
        if self.training:
            moment = x_seq.square().mean((0, 1, 2, 3))
            running += given["momentum"] * (moment.detach() - running)
        moment = moment + given["eps"]
        divisor = moment.sqrt() if self.net["psp_root"] else moment
        self.steepest = max(self.steepest, float(1 / divisor.detach().min()))
        return self.own(name)["weight"] * x_seq / divisor

    def neurons(self, c_seq, name):
        """Return what the method's neurons pass on."""
        neuron, options, own = self.net["neuron"], self.net["neuron_options"], self.own(name)
        match self.net["neuron_model"]:
            case "plif":
                found = plif(c_seq, own, neuron, **options)
            case "glif":
                found = glif(c_seq, own, neuron)
            case "diet":
                found = diet(c_seq, own, neuron, **options)
            case "mpbn":
                gamma, beta, running = own["weight"], own["bias"], self.running(name)
                found = lif(
                    c_seq,
                    neuron["tau"],
                    neuron,
                    lambda u_pre: self.normalised(u_pre, gamma, beta, running, 1e-5, 0.1),
                )
            case _:
                found = lif(c_seq, neuron["tau"], neuron)
        self.layers[name] = found
        return own["a"] * found.o if self.net["neuron_model"] == "real_spike" else found.o

    def stem(self, x_seq):
        """Return the spikes of the stem, or where blocks take them the last currents."""
        stem, currents = self.net["stem"], self.net["block"] == "ms"
        for i in range(stem["convs"]):
            stride = stem["stride"] if i == 0 else 1
            x_seq = self.norm(self.conv(x_seq, f"stem.conv{i}", stride), f"stem.bn{i}")
            if not (currents and i == stem["convs"] - 1):
                x_seq = self.neurons(x_seq, f"stem.lif{i}")
        if stem["pool"]:
            x_seq = on_images(lambda x: F.avg_pool2d(x, *stem["pool"]), x_seq)
        return x_seq

    def skip(self, x_seq, name, stride, factor):
        """Return the skip, and whether it is normalised."""
        if f"{name}.skip.conv.weight" in self.params:
            if self.net["downsample"] == "avgpool" and stride > 1:
                x_seq, stride = on_images(lambda x: F.avg_pool2d(x, stride), x_seq), 1
            c_seq = self.conv(x_seq, f"{name}.skip.conv", stride)
            return self.norm(c_seq, f"{name}.skip.bn", factor), True
        if self.net["norm_identity"]:
            return self.norm(x_seq, f"{name}.skip.bn", factor), True
        return x_seq, False

    def block(self, x_seq, name, stride):
        """Return a residual block's output: by its kind it fires the sum, joins spikes, or adds."""
        kind, alpha = self.net["block"], self.net["merge_scale"]
        inner = partial(self.conv, name=f"{name}.conv1", stride=stride)
        if kind == "ms":
            y = self.norm(inner(self.neurons(x_seq, f"{name}.lif1")), f"{name}.bn1")
            y = self.neurons(y, f"{name}.lif2")
        else:
            y = self.neurons(self.norm(inner(x_seq), f"{name}.bn1"), f"{name}.lif1")
        f = self.conv(y, f"{name}.conv2")
        s, normalised = self.skip(x_seq, name, stride, 1.0 if kind.startswith("sew") else alpha)
        if kind.startswith("sew"):
            a = self.neurons(self.norm(f, f"{name}.bn2"), f"{name}.lif2")
            s = self.neurons(s, f"{name}.skip.lif") if normalised else s
            return {"sew_add": a + s, "sew_and": a * s, "sew_iand": (1 - a) * s}[kind]
        total = self.norm(f, f"{name}.bn2", alpha if normalised else 1.0) + s
        return total if kind == "ms" else self.neurons(total, f"{name}.lif2")

    def head(self, x_seq, name):
        """Return a branch's outputs of every step, (T, N, K)."""
        if self.net["block"] == "ms" and name == "head":
            x_seq = self.neurons(x_seq, "final.lif")
        y = x_seq.mean((2, 3))
        if f"{name}.hidden.weight" in self.params:
            own = self.own(f"{name}.hidden")
            y = self.neurons(y @ own["weight"] + own["bias"], f"{name}.lif")
        own = self.own(f"{name}.fc")
        return y @ own["weight"] + own["bias"]

    def forward(self, x_seq):
        """Return the outputs (T, N, K) of all branches, the main one last."""
        outputs, x_seq = [], self.stem(x_seq)
        for name, _, stride, branch in blocks(self.net):
            x_seq = self.block(x_seq, name, stride)
            if branch:
                outputs.append(self.head(x_seq, branch))
        return outputs

    def potential_loss(self):
        """Return the sum of the losses of all layers' potentials that count."""
        given, total = self.net["potential_loss"], torch.zeros((), dtype=torch.float64)
        if given is None:
            return total
        last = "lif1" if self.net["block"] == "ms" else "lif2"
        for name, one in self.layers.items():
            if name.startswith("head"):
                continue
            outside = name.startswith(("stem", "final")) or name.endswith(f".{last}")
            if given["kind"] == "mpd":
                value, sigma = distribution(one.u_pre, self.net["neuron"]["v_th"], **given)
                self.steepest = max(self.steepest, float((1 / sigma.detach()).max()))
                total = total + value
            elif outside and "skip" not in name:
                off = one.u_pre.mean() - self.net["neuron"]["v_th"]
                total = total + given["lam"] * off**2
        return total


def distribution(u_pre, v_th, lam, half_width=None, kind="mpd"):
    """Return RecDis-SNN's loss of a layer's potentials, as reconstructed, and their deviations."""
    x = ((u_pre - v_th) / (half_width or v_th)).reshape(-1, u_pre.shape[-1])
    size, sigma = x.mean(0).abs(), (x.var(0, correction=0) + 1e-10).sqrt()
    terms = (size - sigma, sigma - 2, 1 - size - sigma)
    return lam * sum(F.relu(term).pow(2).mean() for term in terms), sigma


def loss_of(outputs, labels, given, readout):
    """Return the loss of outputs (T, N, K): TET's of every step, or that of their mean or sum."""
    if given is None:
        logits = outputs.sum(0) if readout == "sum" else outputs.mean(0)
        return F.cross_entropy(logits, labels)
    entropies = [F.cross_entropy(b, labels) for b in outputs]
    pull = F.mse_loss(outputs, torch.full_like(outputs, given["phi"]))
    return (1 - given["lam"]) * sum(entropies) / len(entropies) + given["lam"] * pull


def objective(net, outputs, labels, side, branch_sum):
    """Return the loss of all branches' outputs, the main one last."""
    *sides, main = outputs
    if branch_sum == "losses":
        losses = [loss_of(b, labels, net["loss"], net["readout"]) for b in (*sides, main)]
        return losses[-1] + side * sum(losses[:-1])
    return loss_of(main + side * sum(sides), labels, net["loss"], net["readout"])


def leaves(params):
    """Copy arrays by name into tensors that get gradients."""
    return {name: torch.tensor(np.array(x), requires_grad=True) for name, x in params.items()}


def array(x):
    """Copy a tensor into an array."""
    return x.detach().numpy().copy()


def arrays(tensors):
    """Copy tensors by name into arrays."""
    return {name: array(x) for name, x in tensors.items()}


def step(net, params, buffers, x_seq, labels, side, branch_sum="logits", training=True):
    """Return a forward pass, its outputs and the loss; the gradients are in `params`."""
    found = Pass(PLAIN | net, params, buffers, training)
    outputs = found.forward(torch.tensor(np.array(x_seq)))
    for b in outputs:
        b.retain_grad()
    loss = objective(found.net, outputs, torch.tensor(np.array(labels)), side, branch_sum)
    loss = loss + found.potential_loss()
    loss.backward()
    return found, outputs, loss.item()


def run(net, params, buffers, x_seq, labels, side, branch_sum="logits", training=True):
    """Compute one forward and backward pass on x_seq (T, N, H, W, C) and labels (N,)."""
    own = leaves(params)
    found, outputs, loss = step(net, own, buffers, x_seq, labels, side, branch_sum, training)
    return {
        "outputs": list(map(array, outputs)),
        "layers": layers_of(found),
        "loss": loss,
        "grads": gradients(own),
        "buffers": arrays(found.buffers),
        "steepest": found.steepest,
        "arriving": sum(0.0 if b.grad is None else float(b.grad.abs().sum()) for b in outputs),
    }


def layers_of(found):
    """Return a forward pass's layers by name, as arrays."""
    return {name: Layer(*map(array, one)) for name, one in found.layers.items()}


def gradients(params):
    """Return the gradients by name, 0 where nothing depends on a parameter."""
    return {
        name: np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy()
        for name, p in params.items()
    }


def neurons_alone(method, c_seq, dy_seq, params, neuron, options, running, training):
    """Return what a layer of neurons computes and the gradients for dy_seq (T, N, H, W, C)."""
    net = {"neuron": neuron, "neuron_model": method, "neuron_options": options}
    named = {f"lif.{name}": x for name, x in params.items()} | {"c": c_seq}
    own = leaves(named)
    buffers = {f"lif.running_{which}": x for which, x in zip(("mean", "var"), running, strict=True)}
    found = Pass(net, own, buffers, training)
    y_seq = found.neurons(own["c"], "lif")
    y_seq.backward(torch.tensor(dy_seq))
    return {
        "y_seq": array(y_seq),
        "layer": Layer(*map(array, found.layers["lif"])),
        "buffers": arrays(found.buffers),
        "grads": {name.removeprefix("lif."): g for name, g in gradients(own).items()},
        "steepest": found.steepest,
    }


def norm_alone(method, x_seq, dy_seq, params, norm, running, training):
    """Return a batch norm of x_seq (T, N, H, W, C) and the gradients for dy_seq."""
    own = leaves({f"bn.{name}": x for name, x in params.items()} | {"x": x_seq})
    buffers = {f"bn.running_{which}": x for which, x in zip(("mean", "var"), running, strict=True)}
    found = Pass({"norm": norm, "norm_model": method}, own, buffers, training)
    y_seq = found.norm(own["x"], "bn")
    y_seq.backward(torch.tensor(dy_seq))
    grads = {name.removeprefix("bn."): g for name, g in gradients(own).items()}
    return {"y_seq": array(y_seq), "grads": grads, "buffers": arrays(found.buffers)}


def potentials_alone(u_pre, v_th, given):
    """Return the loss of a layer's potentials (T, N, H, W, C), and its gradient."""
    u = torch.tensor(u_pre, requires_grad=True)
    net = PLAIN | {"potential_loss": given, "neuron": {"v_th": v_th}}
    found = Pass(net, {}, {}, True)
    found.layers["stem.lif0"] = Layer(u, u, u)
    loss = found.potential_loss()
    loss.backward()
    return loss.item(), u.grad.numpy()


def distillation(logits, teacher, labels, temperature, alpha):
    """Return the loss of logits beside a teacher's, and its gradient."""
    z, t = torch.tensor(logits, requires_grad=True), torch.tensor(teacher)
    soft = F.log_softmax(z / temperature, 1), F.log_softmax(t / temperature, 1)
    divergence = F.kl_div(*soft, reduction="batchmean", log_target=True)
    entropy = F.cross_entropy(z, torch.tensor(labels))
    loss = alpha * temperature**2 * divergence + (1 - alpha) * entropy
    loss.backward()
    return loss.item(), z.grad.numpy()


def of_features(rates, features, align, beta):
    """Return the loss of features (N, H, W, C) beside a teacher's, and its gradients."""
    x = torch.tensor(rates, requires_grad=True)
    w = None if align is None else torch.tensor(align, requires_grad=True)
    found = x.permute(0, 3, 1, 2)
    found = found if w is None else F.conv2d(found, w.permute(3, 2, 0, 1))
    difference = found.permute(0, 2, 3, 1) - torch.tensor(features)
    loss = beta * difference.square().sum() / len(x)
    loss.backward()
    return loss.item(), x.grad.numpy(), None if w is None else w.grad.numpy()


def decay_of(name, settings):
    """Return a parameter's weight decay: never of neurons, of all else or of weights alone."""
    *_, layer, kind = name.split(".")
    weighs = layer.startswith(("conv", "fc", "hidden")) and kind == "weight"
    decays = weighs or settings["decay_on"] == "all"
    return 0.0 if layer.startswith("lif") or not decays else settings["weight_decay"]


def surrogate_in(epoch, settings, neuron):
    """Return the neuron with the surrogate of an epoch, whose number grows by equal factors."""
    if settings["surrogate_end"] is None:
        return neuron
    start = neuron["surrogate_shape"]
    grown = start * (settings["surrogate_end"] / start) ** (epoch / settings["epochs"])
    return neuron | {"surrogate_shape": grown}


def train(net, params, buffers, batches, settings):
    """Train on batches of images (N, H, W, C) and labels (N,), all of them in each epoch.

    `settings` are those of a run by name. Returns parameters and running statistics after it, and
    of each iteration loss, layers and gradients.
    """
    own, steps = leaves(params), []
    groups = [{"params": [p], "weight_decay": decay_of(name, settings)} for name, p in own.items()]
    if settings["optimizer"] == "sgd":
        optimizer = torch.optim.SGD(groups, settings["lr"], settings["momentum"])
    else:
        optimizer = torch.optim.AdamW(groups, settings["lr"])
    total = settings["epochs"] * len(batches)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    for i in range(total):
        images, labels = batches[i % len(batches)]
        now = net | {"neuron": surrogate_in(i // len(batches), settings, net["neuron"])}
        weights = settings["lam"], settings["shortcut_weight"]
        side = side_coefficient(settings["method"], (i + 1) / total, *weights)
        x_seq = np.stack([images] * settings["steps"])
        optimizer.zero_grad()
        found, _, loss = step(now, own, buffers, x_seq, labels, side, settings["branch_sum"])
        buffers = arrays(found.buffers)
        steps.append({"loss": loss, "layers": layers_of(found), "grads": gradients(own)})
        optimizer.step()
        schedule.step()
        for name, p in own.items():
            if name.endswith(".leak"):  # Diet-SNN's is at most 1
                p.data.clamp_(max=1)
    return {"params": arrays(own), "buffers": buffers, "steps": steps}
