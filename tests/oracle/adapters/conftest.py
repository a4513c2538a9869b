"""Small random cases of every level, for tests of adapters."""

from types import SimpleNamespace

import numpy as np
import pytest

CONVENTIONS = {
    "tau": 0.5,
    "v_th": 1.0,
    "surrogate": "tanh",
    "surrogate_shape": 0.5,
    "surrogate_scale": "as given",
    "surrogate_edge": "outside",
    "surrogate_at": "u_pre - v_th",
    "leak": "tau*u + c",
    "fire_at_threshold": False,
    "reset": "zero",
    "reset_gradient": "full",
    "norm_statistics": "pooled",
    "norm_eps": 1e-5,
    "norm_scale": "1",
    "readout": "mean",
    "branch_sum": "logits",
    "lam_clock": "iteration",
    "decay_on": "all",
}
NETWORK = {
    "steps": 2,
    "depths": [1, 1, 2],
    "widths": [3, 4, 4],
    "stem_width": 3,
    "branches": "stage",
    "side": 0.25,
    "training": True,
}
TRAINING = {
    "method": "evolutionary",
    "batches": 2,
    "epochs": 3,
    "lam": 0.25,
    "shortcut_weight": 1.0,
    "optimizer": "adamw",
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 0.1,
}


def conv_bn(rng, conv, bn, c_out, c_in, size):
    return {
        f"{conv}.weight": rng.normal(size=(c_out, c_in, size, size)) / size,
        f"{bn}.weight": rng.uniform(0.5, 2, c_out),
        f"{bn}.bias": rng.normal(0.3, 0.3, c_out),
        f"{bn}.running_mean": rng.normal(size=c_out),
        f"{bn}.running_var": rng.uniform(0.5, 2, c_out),
    }


def block(rng, at, c_out, c_in, shrinks):
    return {
        **conv_bn(rng, f"{at}conv1", f"{at}bn1", c_out, c_in, 3),
        **conv_bn(rng, f"{at}conv2", f"{at}bn2", c_out, c_out, 3),
        **(conv_bn(rng, f"{at}skip.conv", f"{at}skip.bn", c_out, c_in, 1) if shrinks else {}),
    }


def network(rng, settings, classes=3):
    width, places = settings["stem_width"], []
    params = conv_bn(rng, "stem.conv0", "stem.bn0", width, 2, 3)
    for stage, (depth, wide) in enumerate(
        zip(settings["depths"], settings["widths"], strict=True), 1
    ):
        for number in range(depth):
            at = f"stage{stage}.block{number}"
            shrinks = number == 0 and (stage > 1 or wide != width)
            params |= block(rng, f"{at}.", wide, width, shrinks)
            width = wide
            places.append((f"stage{stage}", at, width))
    heads = {
        "none": {},
        "stage": {f"branch.{stage}": w for stage, _, w in places if stage != places[-1][0]},
        "block": {f"branch.{at}": w for _, at, w in places[:-1]},
    }[settings["branches"]]
    for at, w in {**heads, "head": width}.items():
        params[f"{at}.fc.weight"] = rng.normal(size=(classes, w))
        params[f"{at}.fc.bias"] = rng.normal(size=classes)
    return params


def inputs_of(level, rng, settings):
    if level == "surrogate":
        return {"u_pre": np.concatenate([rng.uniform(-1, 3, 40), [0.5, 1.0, 1.5]])}
    if level == "neuron":
        return {name: rng.normal(0.5, 1, size=(4, 60)) for name in ("c", "do")}
    shrinks = settings.get("stride") == 2
    side = 3 if shrinks else 6
    if level == "layer":
        params = conv_bn(rng, "conv", "bn", 3, 2, 3)
        return {
            "x": rng.normal(size=(3, 2, 2, 6, 6)),
            "do": rng.normal(size=(3, 2, 3, 6, 6)),
            **params,
        }
    if level == "block":
        x, do = rng.normal(size=(3, 2, 3, 6, 6)), rng.normal(size=(3, 2, 3, side, side))
        return {"x": x, "do": do, **block(rng, "", 3, 3, shrinks)}
    batches = (6, 4) if level == "training" else (4,)
    images, labels = rng.normal(size=(*batches, 2, 6, 6)), rng.integers(3, size=batches)
    return {"images": images, "labels": labels, **network(rng, settings)}


SETTINGS = {
    "surrogate": {},
    "neuron": {},
    "layer": {"stride": 1, "padding": 1, "training": True},
    "block": {"stride": 2, "training": True},
    "network": NETWORK,
    "training": NETWORK | TRAINING,
}


@pytest.fixture
def small_case():
    """(level, settings that differ, **conventions that differ) -> a case without outputs."""

    def build(level, settings=None, **conventions):
        settings = SETTINGS[level] | (settings or {})
        rng = np.random.default_rng(5)
        inputs = {
            name: value if name == "labels" else value.astype(np.float32).astype(np.float64)
            for name, value in inputs_of(level, rng, settings).items()
        }
        return SimpleNamespace(
            id=f"{level}/small",
            level=level,
            conventions=CONVENTIONS | conventions,
            settings=settings,
            repeat=1,
            inputs=inputs,
            outputs={},
        )

    return build
