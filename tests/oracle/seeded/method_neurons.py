"""Right neurons of other methods in NumPy, each with the mistakes that implementations make.

They share nothing with refsnn's. Sequences are (T, N, C); the surrogate is tanh, k = 1/2.
"""

import numpy as np

from refsnn.oracle.adapters import Unsupported


def slope(x):
    return 0.5 * (1 - np.tanh(x) ** 2)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Mine:
    """Computes one method's neurons, with a mistake or ("") none."""

    levels = ("neuron",)

    def __init__(self, model, fault=""):
        self.model, self.fault = model, fault

    def run(self, case):
        told = case.conventions
        if told["neuron_model"] != self.model:
            raise Unsupported(f"it is {self.model}")
        if told["surrogate"] != "tanh":
            raise Unsupported("the surrogate is always tanh")
        return getattr(self, self.model)(dict(case.inputs), told, case.settings)

    def fires(self, distance):
        return (distance >= 0 if self.fault == "fires at the threshold" else distance > 0) * 1.0

    def reset(self, u_pre, o, v_th):
        """Return u, and its derivatives by u_pre and by o."""
        if self.fault == "soft reset":
            return u_pre - v_th * o, np.ones_like(o), -v_th + 0 * o
        return u_pre * (1 - o), 1 - o, -u_pre

    def through(self):
        return self.fault != "detached reset"

    def lif(self, c, do, leak, v_th, size=1.0):
        """Return u_pre, o, delta, and sum delta[t+1] u[t], of a LIF that passes on size o.

        And what a reset that takes size o adds to the gradient of size.
        """
        T, u = len(c), 0 * c[0]
        u_pre, o, before, by_u, by_o = (np.zeros_like(c) for _ in range(5))
        of_size = 0 * c[0]
        in_reset = size if self.fault == "the reset takes a o" else 1.0
        for t in range(T):
            before[t] = u
            u_pre[t] = leak * u + c[t]
            o[t] = self.fires(u_pre[t] - v_th)
            u, by_u[t], by_o[t] = self.reset(u_pre[t], in_reset * o[t], v_th)
        delta, du = np.zeros_like(c), 0 * c[0]
        for t in reversed(range(T)):
            total = do[t] + du * by_o[t] * in_reset * self.through()
            of_size = of_size + du * by_o[t] * o[t]
            delta[t] = total * slope(u_pre[t] - v_th) + du * by_u[t]
            du = leak * delta[t]
        return u_pre, o, delta, delta * before, of_size

    def plif(self, x, told, settings):
        s = sigmoid(x["w"][0])
        leak, gain = (s, 1 - s) if self.fault == "leak sigmoid(w)" else (1 - s, s)
        gain = 1.0 if self.fault == "no input decay" else gain
        u_pre, o, delta, by_leak, _ = self.lif(gain * x["c"], x["do"], leak, told["v_th"])
        ds = -by_leak.sum()
        if self.fault not in ("no input decay", "no input in dw"):
            ds += (delta * x["c"]).sum()
        if self.fault == "leak sigmoid(w)":
            ds = -ds
        dw = ds if self.fault == "dw without the sigmoid's slope" else ds * s * (1 - s)
        return {"u_pre": u_pre, "o": o, "dc": gain * delta, "grad.w": np.array([dw])}

    def real_spike(self, x, told, settings):
        a = x["a"]
        do = x["do"] * (1.0 if self.fault == "no a in the backward pass" else a)
        u_pre, o, delta, _, of_size = self.lif(x["c"], do, told["tau"], told["v_th"], a)
        da = (x["do"] * o).sum((0, 1))
        if self.fault == "the reset takes a o":
            da = da + of_size.sum(0)
        y = o if self.fault == "passes on o" else a * o
        return {"u_pre": u_pre, "o": o, "y": y, "dc": delta, "grad.a": da}

    def glif(self, x, told, settings):
        c, do, T = x["c"], x["do"], len(x["c"])
        v = {k: sigmoid(value) for k, value in x.items() if k not in ("c", "do")}
        if self.fault == "gates the other way round":
            v |= {k: 1 - v[k] for k in ("alpha", "beta", "gamma")}
        if self.fault == "one conductance":
            v["g"] = np.repeat(v["g"][:1], T, 0)
        A = 1 - v["alpha"] * (1 - v["tau"])
        B = 1 - v["beta"] * (1 - v["g"])
        drop, amount = (1 - v["alpha"]) * v["l"], (1 - v["gamma"]) * v["r"]
        if self.fault == "linear leak added":
            drop = -drop
        u_pre, o = np.zeros_like(c), np.zeros_like(c)
        u_b, o_b = np.zeros_like(c), np.zeros_like(c)
        for t in range(T):
            if t:
                u_b[t], o_b[t] = u_pre[t - 1], o[t - 1]
            u_pre[t] = A * u_b[t] * (1 - v["gamma"] * o_b[t]) - drop - amount * o_b[t]
            u_pre[t] += B[t] * c[t]
            o[t] = self.fires(u_pre[t] - v["v_th"])
        h, delta, later = slope(u_pre - v["v_th"]), np.zeros_like(c), 0 * c[0]
        total = do.copy()
        for t in reversed(range(T)):
            total[t] -= later * (A * v["gamma"] * u_pre[t] + amount) * self.through()
            later = delta[t] = total[t] * h[t] + later * A * (1 - v["gamma"] * o[t])
        dA = (delta * u_b * (1 - v["gamma"] * o_b)).sum((0, 1))
        sign = -1 if self.fault == "linear leak added" else 1
        d = {
            "alpha": -(1 - v["tau"]) * dA + sign * v["l"] * delta.sum((0, 1)),
            "beta": -((delta * c).sum(1) * (1 - v["g"])).sum(0),
            "gamma": (delta * (-A * u_b * o_b + v["r"] * o_b)).sum((0, 1)),
            "tau": v["alpha"] * dA,
            "v_th": -(total * h).sum((0, 1)) * (self.fault != "v_th detached"),
            "l": -sign * (1 - v["alpha"]) * delta.sum((0, 1)),
            "r": -(1 - v["gamma"]) * (delta * o_b).sum((0, 1)),
            "g": v["beta"] * (delta * c).sum(1),
        }
        if self.fault == "gates the other way round":
            d |= {k: -d[k] for k in ("alpha", "beta", "gamma")}
        if self.fault == "one conductance":
            d["g"] = np.concatenate([d["g"].sum(0)[None], 0 * d["g"][1:]])
        if self.fault != "gradients without the sigmoids' slopes":
            d = {k: value * v[k] * (1 - v[k]) for k, value in d.items()}
        grads = {f"grad.{k}": value for k, value in d.items()}
        return {"u_pre": u_pre, "o": o, "dc": B[:, None] * delta, **grads}

    def diet(self, x, told, settings):
        c, do, leak, v_th = x["c"], x["do"], x["leak"][0], x["v_th"][0]
        T, hard = len(c), self.fault == "hard reset"
        share = 1.0 if self.fault == "reset after the leak" else leak
        u_pre, o, u_b, o_b = (np.zeros_like(c) for _ in range(4))
        for t in range(T):
            if t:
                u_b[t], o_b[t] = u_pre[t - 1], o[t - 1]
            if hard:
                u_pre[t] = leak * u_b[t] * (1 - o_b[t]) + c[t]
            else:
                u_pre[t] = leak * u_b[t] - share * v_th * o_b[t] + c[t]
            o[t] = self.fires(u_pre[t] / v_th - 1)
        h, by_v_th = slope(u_pre / v_th - 1) / v_th, -u_pre / v_th
        if self.fault == "no 1/v_th":
            h, by_v_th = h * v_th, -np.ones_like(c)
        if self.fault == "slope of u_pre - v_th":
            h, by_v_th = slope(u_pre - v_th), -np.ones_like(c)
        delta, total, later = np.zeros_like(c), do.copy(), 0 * c[0]
        for t in reversed(range(T)):
            total[t] -= later * (leak * u_pre[t] if hard else share * v_th) * self.through()
            later = delta[t] = total[t] * h[t] + later * leak * ((1 - o[t]) if hard else 1)
        dleak = (delta * u_b * (1 - o_b if hard else 1)).sum()
        if share == leak and not hard:
            dleak -= (delta * v_th * o_b).sum()
        dv_th = (total * h * by_v_th).sum()
        if not hard and self.fault != "v_th detached in the reset":
            dv_th -= (delta * share * o_b).sum()
        grads = {"grad.leak": np.array([dleak]), "grad.v_th": np.array([dv_th])}
        return {"u_pre": u_pre, "o": o, "dc": delta, **grads}

    def mpbn(self, x, told, settings):
        c, do, tau, v_th = x["c"], x["do"], told["tau"], told["v_th"]
        gamma, beta, training = x["weight"], x["bias"], settings["training"]
        mean, var, (T, N, _) = x["running_mean"].copy(), x["running_var"].copy(), c.shape
        keeps_v = self.fault == "keeps the normalised potential"
        u, roots = 0 * c[0], []
        u_pre, hat, v, o, by_u, by_o = (np.zeros_like(c) for _ in range(6))
        for t in range(T):
            u_pre[t] = tau * u + c[t]
            m, s = (u_pre[t].mean(0), u_pre[t].var(0)) if training else (mean, var)
            roots.append(np.sqrt(s + 1e-5))
            hat[t] = (u_pre[t] - m) / roots[t]
            v[t] = gamma * hat[t] + beta
            o[t] = self.fires(v[t] - v_th)
            u, by_u[t], by_o[t] = self.reset(v[t] if keeps_v else u_pre[t], o[t], v_th)
            if training:
                mean = 0.9 * mean + 0.1 * m
                unbiased = 1 if self.fault == "biased running variance" else N / (N - 1)
                var = 0.9 * var + 0.1 * s * unbiased
        delta, dv, du = np.zeros_like(c), np.zeros_like(c), 0 * c[0]
        for t in reversed(range(T)):
            total = do[t] + du * by_o[t] * self.through()
            dv[t] = total * slope(v[t] - v_th) + (du * by_u[t] if keeps_v else 0)
            d = dv[t] * gamma
            if training and self.fault != "statistics detached":
                d = d - d.mean(0) - hat[t] * (d * hat[t]).mean(0)
            delta[t] = d / roots[t] + (0 if keeps_v else du * by_u[t])
            du = tau * delta[t]
        found = {"u_pre": u_pre, "v": v, "o": o}
        if training:
            found |= {"new.running_mean": mean, "new.running_var": var}
        grads = {"grad.weight": (dv * hat).sum((0, 1)), "grad.bias": dv.sum((0, 1))}
        return {**found, "dc": delta, **grads}


#: model, mistake, the output that is first wrong, and the conventions that it is ({}: none known)
FAULTS = [
    ("plif", "no input decay", "u_pre", {"plif_input_decay": False}),
    ("plif", "leak sigmoid(w)", "u_pre", {"plif_leak": "sigmoid(w)"}),
    ("plif", "dw without the sigmoid's slope", "grad.w", {"sigmoid_gradient": "missing"}),
    ("plif", "detached reset", "dc", {"reset_gradient": "detached"}),
    ("plif", "soft reset", "u_pre", {"reset": "subtract"}),
    ("plif", "fires at the threshold", "o", {"fire_at_threshold": True}),
    ("plif", "no input in dw", "grad.w", {}),
    ("glif", "gates the other way round", "u_pre", {"glif_gates": "1 - gate"}),
    ("glif", "one conductance", "u_pre", {"glif_conductance": "first step"}),
    (
        *("glif", "gradients without the sigmoids' slopes", "grad.alpha"),
        {"sigmoid_gradient": "missing"},
    ),
    ("glif", "detached reset", "dc", {"reset_gradient": "detached"}),
    ("glif", "linear leak added", "u_pre", {}),
    ("glif", "v_th detached", "grad.v_th", {}),
    ("diet", "reset after the leak", "u_pre", {"diet_reset_leaks": False}),
    ("diet", "hard reset", "u_pre", {"reset": "zero"}),
    ("diet", "no 1/v_th", "dc", {"diet_slope": "without 1/v_th"}),
    ("diet", "slope of u_pre - v_th", "dc", {"diet_slope": "u_pre - v_th"}),
    ("diet", "v_th detached in the reset", "grad.v_th", {"diet_v_th_gradient": "reset detached"}),
    ("diet", "detached reset", "dc", {"reset_gradient": "detached"}),
    ("diet", "fires at the threshold", "o", {"fire_at_threshold": True}),
    ("mpbn", "keeps the normalised potential", "u_pre", {"mpbn_state": "normalised"}),
    ("mpbn", "soft reset", "u_pre", {"reset": "subtract"}),
    ("mpbn", "detached reset", "dc", {"reset_gradient": "detached"}),
    ("mpbn", "biased running variance", "new.running_var", {}),
    ("mpbn", "statistics detached", "dc", {}),
    ("real_spike", "the reset takes a o", "u_pre", {"real_spike_reset": "size"}),
    ("real_spike", "soft reset", "u_pre", {"reset": "subtract"}),
    ("real_spike", "detached reset", "dc", {"reset_gradient": "detached"}),
    ("real_spike", "fires at the threshold", "o", {"fire_at_threshold": True}),
    ("real_spike", "passes on o", "y", {}),
    ("real_spike", "no a in the backward pass", "dc", {}),
]
