"""Right norms, blocks and losses of other methods in PyTorch, each with mistakes of its own.

They share nothing with refsnn's: gradients are autograd's. Sequences are (T, N, C, H, W); the
surrogate is tanh, k = 1/2.
"""

import torch
from torch.nn.functional import conv2d, cross_entropy, kl_div, log_softmax, softmax

from refsnn.oracle.adapters import Unsupported

DEFAULTS = {
    "norm_model": "bn",
    "block": "basic",
    "potential_loss": "none",
    "teacher_loss": "none",
    "loss_at": "mean",
    "tet_lam": 0.0,
}


class Spike(torch.autograd.Function):
    """Fires above zero; its slope is 0.5 (1 - tanh(x)^2)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 0.5 * (1 - torch.tanh(x) ** 2)


class Gate(torch.autograd.Function):
    """The product of two sequences of spikes, whose gradient has a mistake."""

    @staticmethod
    def forward(ctx, a, s, fault):
        ctx.save_for_backward(a, s)
        ctx.fault = fault
        return a * s

    @staticmethod
    def backward(ctx, grad):
        _, s = ctx.saved_tensors
        if ctx.fault == "gradient as a sum":
            return grad, grad, None
        return grad * s, None, None


class Mine:
    """Computes the cases of one declared method, with a mistake or ("") none."""

    levels = ("layer", "block", "network")

    def __init__(self, told, fault=""):
        self.told, self.fault = DEFAULTS | told, fault

    def run(self, case):
        if any(case.conventions[name] != value for name, value in self.told.items()):
            raise Unsupported(f"it is {self.told}")
        if case.conventions["surrogate"] != "tanh":
            raise Unsupported("the surrogate is always tanh")
        return Run(case, self.told, self.fault).outputs()


class Run:
    """One case's pass forward and backward; what it computes is kept by name."""

    def __init__(self, case, told, fault):
        self.case, self.told, self.fault = case, told, fault
        self.training = case.settings["training"]
        self.tau, self.v_th = (case.conventions[name] for name in ("tau", "v_th"))
        self.given = {name: torch.tensor(x) for name, x in case.inputs.items()}
        constants = ("do", "labels", "images", "teacher")
        self.grads = []
        for name, x in self.given.items():
            if "running" not in name and name not in constants:
                x.requires_grad_()
                self.grads.append(name)
        self.found, self.at_steps, self.potentials = {}, {}, {}

    def outputs(self):
        getattr(self, self.case.level)()
        if self.case.level == "network" and not self.training:
            self.grads, self.at_steps = [], {}
        for name, steps in self.at_steps.items():
            grads = [torch.zeros_like(x) if x.grad is None else x.grad for x in steps]
            self.found[f"{name}du_pre"] = torch.stack(grads)
        for name in self.grads:
            x = self.given[name]
            key = "dx" if name == "x" else f"grad.{name}"
            self.found[key] = torch.zeros_like(x) if x.grad is None else x.grad
        return {name: x.detach().numpy() for name, x in self.found.items()}

    # what all levels share

    def conv(self, name, x, stride=1, padding=1):
        found = conv2d(x.flatten(0, 1), self.given[f"{name}.weight"], None, stride, padding)
        return found.unflatten(0, x.shape[:2])

    def normalised(self, name, x, eps=1e-5):
        """Return x without gamma and beta, by pooled statistics."""
        keys = [f"{name}.running_mean", f"{name}.running_var"]
        mean, var = (self.given[key].clone() for key in keys)
        if not self.training:
            return (x - at(mean)) / torch.sqrt(at(var) + eps)
        parts = list(x[:, None]) if self.fault == "statistics per step" else [x]
        hats = []
        for part in parts:
            m, v = part.mean((0, 1, 3, 4)), part.var((0, 1, 3, 4), unbiased=False)
            if self.fault == "statistics detached":
                m, v = m.detach(), v.detach()
            hats.append((part - at(m)) / torch.sqrt(at(v) + eps))
            size = part.numel() / part.shape[2]
            unbiased = 1 if self.fault == "biased running variance" else size / (size - 1)
            mean = 0.9 * mean + 0.1 * m.detach()
            var = 0.9 * var + 0.1 * v.detach() * unbiased
        self.found |= {f"new.{key}": value for key, value in zip(keys, (mean, var), strict=True)}
        return torch.cat(hats)

    def norm(self, name, x):
        hat = self.normalised(name, x)
        return at(self.given[f"{name}.weight"]) * hat + at(self.given[f"{name}.bias"])

    def lif(self, name, c):
        """Return the spikes of currents."""
        u, kept = torch.zeros_like(c[0]), {"u_pre": [], "o": [], "u": []}
        self.at_steps[name], seen = kept["u_pre"], []
        for c_t in c:
            own_step = self.fault == "potentials' gradient stays in its step"
            u_pre = self.tau * u + c_t
            if u_pre.requires_grad:
                u_pre.retain_grad()
            seen.append(self.tau * u.detach() + c_t if own_step else u_pre)
            o = Spike.apply(u_pre - self.v_th)
            u = u_pre * (1 - (o.detach() if self.fault == "detached reset" else o))
            for key, value in (("u_pre", u_pre), ("o", o), ("u", u)):
                kept[key].append(value)
        stacked = {key: torch.stack(values) for key, values in kept.items()}
        self.found |= {f"{name}{key}": value for key, value in stacked.items()}
        self.potentials[name] = c if self.fault == "loss of the currents" else torch.stack(seen)
        return stacked["o"]

    # layers

    def layer(self):
        s = self.case.settings
        x = self.given["x"]
        if self.told["norm_model"] == "psp":
            x = self.psp(x)
        conv = self.conv("conv", x, s["stride"], s["padding"])
        self.found["conv"] = conv
        if self.told["norm_model"] != "psp":
            conv = getattr(self, self.told["norm_model"])(conv)
            self.found["bn"] = conv
        o = self.lif("", conv)
        o.backward(self.given["do"])

    def tebn(self, x):
        p = self.given["bn.p"][:, None, None, None, None]
        if self.fault == "p detached":
            p = p.detach()
        if self.fault == "p before the statistics":
            return self.norm("bn", p * x)
        hat = self.normalised("bn", x)
        gamma, beta = at(self.given["bn.weight"]), at(self.given["bn.bias"])
        return p * gamma * hat + beta if self.fault == "p not on beta" else p * (gamma * hat + beta)

    def bntt(self, x):
        eps = 1e-5 if self.fault == "eps 1e-5" else 1e-4
        mean, var = self.given["bn.running_mean"].clone(), self.given["bn.running_var"].clone()
        ys = []
        for t in range(len(x)):
            axes, of = (0, 2, 3), x[t]
            if self.fault == "statistics of all steps":
                axes, of = (0, 1, 3, 4), x
            m, v = (of.mean(axes), of.var(axes, unbiased=False)) if self.training else (0, 0)
            if not self.training:
                m, v = mean[t], var[t]
            else:
                size = of.numel() / x.shape[2]
                k = 0 if self.fault == "one buffer" else t
                mean[k] = 0.9 * mean[k] + 0.1 * m.detach()
                var[k] = 0.9 * var[k] + 0.1 * v.detach() * size / (size - 1)
            root = torch.sqrt(v) + eps if self.fault == "eps outside the root" else (v + eps).sqrt()
            gamma = self.given["bn.weight"][0 if self.fault == "one weight" else t]
            ys.append(at(gamma, 1) * (x[t] - at(m, 1)) / at(root, 1))
        if self.training:
            self.found |= {"new.bn.running_mean": mean, "new.bn.running_var": var}
        return torch.stack(ys)

    def psp(self, x):
        m2 = self.given["bn.running_var"]
        if self.training:
            centred = x - x.mean((0, 1, 3, 4), keepdim=True)
            m2 = ((centred if self.fault == "variance" else x) ** 2).mean((0, 1, 3, 4))
            size = x.numel() / x.shape[2]
            times = size / (size - 1) if self.fault == "unbiased running moment" else 1
            new = 0.9 * self.given["bn.running_var"] + 0.1 * m2.detach() * times
            self.found["new.bn.running_var"] = new
        if self.fault == "moment detached":
            m2 = m2.detach()
        s = 1 / (m2 + 1e-5) if self.fault == "no root" else (m2 + 1e-5) ** -0.5
        return at(self.given["bn.weight"] * s) * x

    # blocks

    def block(self):
        y = self.through("", self.given["x"], self.case.settings["stride"])
        self.found["y"] = y
        y.backward(self.given["do"])

    def through(self, name, x, stride):
        """Return what a block passes on."""
        return getattr(self, self.told["block"].split("_")[0])(name, x, stride)

    def skip(self, name, x, stride):
        """Return the skip's currents, None where it is the identity."""
        if f"{name}skip.conv.weight" not in self.given:
            return None
        return self.norm(f"{name}skip.bn", self.conv(f"{name}skip.conv", x, stride, 0))

    def branch(self, name, x, stride):
        """Return the spikes of a block's first layer, and the currents of its second."""
        o = self.lif(f"{name}lif1.", self.norm(f"{name}bn1", self.conv(f"{name}conv1", x, stride)))
        return self.norm(f"{name}bn2", self.conv(f"{name}conv2", o))

    def basic(self, name, x, stride):
        s = self.skip(name, x, stride)
        return self.lif(f"{name}lif2.", self.branch(name, x, stride) + (x if s is None else s))

    def sew(self, name, x, stride):
        c, s = self.branch(name, x, stride), self.skip(name, x, stride)
        if self.fault == "fires the sum":
            return self.lif(f"{name}lif2.", c + (x if s is None else s))
        a = self.lif(f"{name}lif2.", c)
        if s is None:
            s = x
        elif self.fault != "skip does not fire":
            s = self.lif(f"{name}skip.lif.", s)
        return self.join(a, s)

    def join(self, a, s):
        kind = self.told["block"]
        if self.fault in ("no gradient to the skip", "gradient as a sum"):
            if kind == "sew_and":
                return Gate.apply(a, s, self.fault)
            if self.fault == "no gradient to the skip":
                return Gate.apply(1 - a, s, self.fault)
        if self.fault == "of the other":
            return a * (1 - s)
        if self.fault == "or":
            return torch.maximum(a, s)
        if self.fault == "spikes of the block detached":
            a = a.detach()
        return {"sew_add": a + s, "sew_and": a * s, "sew_iand": (1 - a) * s}[kind]

    def ms(self, name, x, stride):
        o = self.lif(f"{name}lif1.", x)
        c = self.norm(f"{name}bn1", self.conv(f"{name}conv1", o, stride))
        c = self.conv(f"{name}conv2", self.lif(f"{name}lif2.", c))
        c = self.norm(f"{name}bn2", c)
        s = self.skip(name, o if self.fault == "skip of spikes" else x, stride)
        if s is None:
            s = o if self.fault == "skip of spikes" else x
        return Spike.apply(c + s - self.v_th) if self.fault == "fires at its end" else c + s

    # networks

    def network(self):
        told, settings = self.told, self.case.settings
        images, membrane = self.given["images"], told["block"] == "ms"
        x = images.expand(settings["steps"], *images.shape)
        x = self.norm("stem.bn0", self.conv("stem.conv0", x))
        x = x if membrane else self.lif("stem.lif0.", x)
        side = 0
        for i, depth in enumerate(settings["depths"], 1):
            for j in range(depth):
                x = self.through(f"stage{i}.block{j}.", x, 2 if i > 1 and j == 0 else 1)
                for name in (f"branch.stage{i}.block{j}", f"branch.stage{i}"):
                    last = name != f"branch.stage{i}" or j == depth - 1
                    if last and f"{name}.fc.weight" in self.given:
                        side = side + settings["side"] * self.logits(name, x)
        if membrane:
            x = self.lif("final.lif.", x)
        main = self.logits("head", x)
        if not self.training:
            return
        loss = self.loss(main + side, main)
        self.found["loss"] = loss
        loss.backward()

    def logits(self, name, x):
        """Return a head's logits at each step."""
        fc = (self.given[f"{name}.fc.{part}"] for part in ("weight", "bias"))
        found = torch.nn.functional.linear(x.mean((3, 4)), *fc)
        self.found[f"{name}.logits"] = found.mean(0)
        return found

    def loss(self, b, main):
        labels, told = self.given["labels"], self.told
        if told["tet_lam"]:
            return self.tet(b, labels)
        if told["teacher_loss"] == "logits":
            return self.taught(b, main, labels)
        loss = cross_entropy(b.mean(0), labels)
        if told["potential_loss"] != "none":
            of = getattr(self, told["potential_loss"])
            inside = told["potential_loss"] == "mpd_reconstructed"
            if self.fault == "other layers":
                inside = not inside
            names = [k for k in self.potentials if inside or not k.endswith(".lif1.")]
            loss = loss + sum(of(self.potentials[k]) for k in names)
        return loss

    def tet(self, b, labels):
        lam = 0.001 if self.fault == "lam 0.001" else self.told["tet_lam"]
        phi = 0.0 if self.fault == "pull to 0" else self.v_th
        if self.fault == "loss of the mean logits":
            b = b.mean(0, keepdim=True)
        ce = torch.stack([cross_entropy(b_t, labels) for b_t in b])
        ce = ce.sum() if self.fault == "sum over steps" else ce.mean()
        pulled = b.mean(0) if self.fault == "pull of the mean logits" else b
        pull = ((pulled - phi) ** 2).mean()
        if self.fault == "sum over classes":
            pull = pull * b.shape[-1]
        return (1 if self.fault == "no 1 - lam" else 1 - lam) * ce + lam * pull

    def taught(self, b, main, labels):
        K, alpha, z = 4.0, 0.7, b.mean(0)
        if self.fault == "temperature 2":
            K = 2.0
        if self.fault == "weight 0.5":
            alpha = 0.5
        student = main.mean(0) if self.fault == "main branch alone" else z
        teacher = self.given["teacher"]
        if self.fault == "KL swapped":
            kl = kl_div(log_softmax(teacher / K, 1), softmax(student / K, 1), reduction="batchmean")
        else:
            kl = kl_div(log_softmax(student / K, 1), softmax(teacher / K, 1), reduction="batchmean")
        if self.fault == "mean over classes":
            kl = kl / z.shape[1]
        factor = {"no factor": 1, "factor K": K}.get(self.fault, K * K)
        rest = 1 if self.fault == "labels count wholly" else 1 - alpha
        return alpha * factor * kl + rest * cross_entropy(z, labels)

    def im(self, u_pre):
        lam = 0.5 if self.fault == "weight 0.5" else 2.0
        if self.fault == "mean of squares":
            return lam * ((u_pre - self.v_th) ** 2).mean()
        target = self.v_th / len(u_pre) if self.fault == "target v_th/T" else self.v_th
        return lam * (u_pre.mean() - target) ** 2

    def mpd_reconstructed(self, u_pre):
        lam = 1.0 if self.fault == "weight 1" else 0.01
        x = (u_pre - self.v_th) / self.v_th
        mu, var = x.mean((0, 1, 3, 4)), x.var((0, 1, 3, 4), unbiased=False)
        if self.fault == "unbiased deviation":
            var = x.var((0, 1, 3, 4), unbiased=True)
        sigma, m = torch.sqrt(var + 1e-10), mu if self.fault == "no absolute value" else mu.abs()
        terms = [(m - sigma), (sigma - 2), (1 - m - sigma)]
        return lam * sum((term.clamp(min=0) ** 2).mean() for term in terms)


def at(x, axes=2):
    """Shape a number per channel so that it multiplies an array with `axes` axes before C."""
    x = torch.as_tensor(x)
    return x.reshape(*[1] * axes, -1, 1, 1) if x.dim() else x


TEBN, BNTT, PSP = ({"norm_model": name} for name in ("tebn", "bntt", "psp"))
ADD, AND, IAND, MS = ({"block": name} for name in ("sew_add", "sew_and", "sew_iand", "ms"))
TET = {"loss_at": "each step", "tet_lam": 0.05}
IM, MPD = ({"potential_loss": name} for name in ("im", "mpd_reconstructed"))
TEACHER = {"teacher_loss": "logits"}
#: method, mistake, the output that is first wrong (or one for each of several cases), and the
#: conventions that it is ({}: none known)
FAULTS = [
    (TEBN, "p not on beta", "bn", {"tebn_bias": False}),
    (TEBN, "statistics per step", "bn", {"norm_statistics": "per_step"}),
    (TEBN, "biased running variance", "new.bn.running_var", {"norm_running": "biased"}),
    (TEBN, "statistics detached", "dx", {"norm_gradient": "statistics detached"}),
    (TEBN, "detached reset", "du_pre", {"reset_gradient": "detached"}),
    (TEBN, "p before the statistics", "bn", {}),
    (TEBN, "p detached", "grad.bn.p", {}),
    (BNTT, "one weight", "bn", {"bntt_weight": "first step"}),
    (BNTT, "eps 1e-5", "bn", {"norm_eps": 1e-5}),
    (BNTT, "detached reset", "du_pre", {"reset_gradient": "detached"}),
    (BNTT, "statistics of all steps", "bn", {}),
    (BNTT, "eps outside the root", "bn", {}),
    (BNTT, "one buffer", "new.bn.running_mean", {}),
    (PSP, "no root", "conv", {"psp_root": False}),
    (PSP, "detached reset", "du_pre", {"reset_gradient": "detached"}),
    (PSP, "variance", "conv", {}),
    (PSP, "unbiased running moment", "new.bn.running_var", {}),
    (PSP, "moment detached", "dx", {}),
    (ADD, "detached reset", "lif2.du_pre", {"reset_gradient": "detached"}),
    (ADD, "statistics per step", "lif1.u_pre", {"norm_statistics": "per_step"}),
    (ADD, "fires the sum", "lif2.u_pre", {}),
    (ADD, "skip does not fire", "y", {}),
    (AND, "no gradient to the skip", "dx", {"sew_gradient": "block only"}),
    (AND, "gradient as a sum", "lif2.du_pre", {"sew_gradient": "as a sum"}),
    (AND, "or", "y", {}),
    (AND, "spikes of the block detached", "lif2.du_pre", {}),
    (IAND, "of the other", "y", {"sew_iand": "a (1 - s)"}),
    (IAND, "no gradient to the skip", "dx", {"sew_gradient": "block only"}),
    (IAND, "spikes of the block detached", "lif2.du_pre", {}),
    (IAND, "skip does not fire", "y", {}),
    (MS, "detached reset", "lif2.du_pre", {"reset_gradient": "detached"}),
    (MS, "statistics detached", "lif2.du_pre", {"norm_gradient": "statistics detached"}),
    (MS, "skip of spikes", "y", {}),
    (MS, "fires at its end", "y", {}),
    (TET, "pull to 0", "loss", {"tet_phi": 0.0}),
    (TET, "lam 0.001", "loss", {"tet_lam": 0.001}),
    (TET, "sum over classes", "loss", {"tet_mean": "images"}),
    (TET, "loss of the mean logits", "loss", {"loss_at": "mean"}),
    (TET, "pull of the mean logits", "loss", {}),
    (TET, "no 1 - lam", "loss", {}),
    (TET, "sum over steps", "loss", {}),
    (IM, "weight 0.5", "loss", {"potential_lam": 0.5}),
    (IM, "other layers", "loss", {"potential_layers": "opposite"}),
    (
        *(IM, "potentials' gradient stays in its step", "stage3.block0.lif2.du_pre"),
        {"potential_gradient": "own step"},
    ),
    (IM, "mean of squares", "loss", {}),
    (IM, "target v_th/T", "loss", {}),
    # the same loss with one step, where du_pre lacks its gradient
    (IM, "loss of the currents", "loss stage3.block0.lif2.du_pre", {}),
    (MPD, "weight 1", "loss", {"potential_lam": 1.0}),
    (MPD, "other layers", "loss", {"potential_layers": "opposite"}),
    (
        *(MPD, "potentials' gradient stays in its step", "stage3.block0.lif2.du_pre"),
        {"potential_gradient": "own step"},
    ),
    (MPD, "unbiased deviation", "loss", {}),
    (MPD, "no absolute value", "loss", {}),
    (TEACHER, "no factor", "loss", {"teacher_factor": "none"}),
    (TEACHER, "KL swapped", "loss", {"teacher_divergence": "KL(student, teacher)"}),
    (TEACHER, "mean over classes", "loss", {"teacher_divergence": "mean over classes"}),
    (TEACHER, "temperature 2", "loss", {"teacher_temperature": 2.0}),
    (TEACHER, "weight 0.5", "loss", {"teacher_weight": 0.5}),
    (TEACHER, "main branch alone", "loss", {}),
    (TEACHER, "factor K", "loss", {}),
    (TEACHER, "labels count wholly", "loss", {}),
]
