"""Folding: what training needs and inference does not goes into weights, biases and thresholds."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from refsnn.network.layers import own
from refsnn.network.network import Block, Network, Params, without_branches
from refsnn.ops import (
    MPBN,
    PSPBN,
    Array,
    BatchNorm,
    Folded,
    FoldedByStep,
    RealSpike,
    Thresholds,
    threshold_of_mpbn,
)


def fold(net: Network, params: Params, buffers: Params) -> tuple[Network, Params]:
    """Return the network as inference computes it, and its parameters; it has no statistics.

    It has the same spikes and logits but for rounding; `forward` takes it with no buffers, and with
    `training=False`:

    - Batch norm, with tdBN's factor, becomes a bias of the convolution, whose weights are scaled
      (`Folded`). TEBN and BNTT are a gain and a bias for each step (`FoldedByStep`).
    - MPBN's batch norm becomes a threshold of each channel, below which a neuron fires where gamma
      is negative (`Thresholds`).
    - Real Spike's amplitudes, and PSP-BN's factors, go into the weights after them.
    - The side branches are left out.

    Numbers are computed in float64 and rounded once. ValueError where amplitudes meet in a sum of
    spikes, so that no weights can take them.
    """
    net, params = without_branches(net, params)
    if net.is_folded:
        raise ValueError("net: is folded already")
    real_spike, mpbn = (isinstance(net.neuron_model, kind) for kind in (RealSpike, MPBN))
    if net.neuron_model is not None and net.neuron_model.has_statistics and not mpbn:
        name = type(net.neuron_model).__name__
        raise ValueError(f"net: has {name}, and fold does not know what its statistics become")
    if real_spike and net.block.startswith("sew"):
        raise ValueError(
            f"net: has RealSpike in blocks of kind {net.block}, whose amplitudes meet other spikes "
            "before the next weights, which can't take them"
        )
    by_step = net.norm_model is not None and net.norm_model.by_step
    folded = replace(
        net,
        norm=BatchNorm(),
        norm_model=FoldedByStep() if by_step else Folded(),
        neuron_model=None if real_spike else Thresholds() if mpbn else net.neuron_model,
        merge_scale=1.0,
        norm_identity=net.norm_identity or (real_spike and net.block == "basic"),
        zero_init=False,
    )
    fold = Fold(net, params, buffers)
    found = fold.convolutions() | fold.heads()
    for name in net.neurons():
        found |= fold.neurons(name)
    if folded.norm_identity:
        found |= fold.identities()
    dtype = params["head.fc.weight"].dtype
    return folded, {name: found[name].astype(dtype) for name in folded.shapes()}


class Fold:
    """A network's numbers in float64, and what each part of it is folded into."""

    def __init__(self, net: Network, params: Params, buffers: Params) -> None:
        self.net = net
        self.params = {name: x.astype(np.float64) for name, x in params.items()}
        self.buffers = {name: x.astype(np.float64) for name, x in buffers.items()}

    def amplitude(self, neurons: str | None) -> Array | float:
        """Return the amplitude of each channel of a layer of neurons, or 1 where there is none."""
        has = isinstance(self.net.neuron_model, RealSpike) and neurons is not None
        return self.params[f"{neurons}.a"] if has else 1.0  # M13

    def convolutions(self) -> Params:
        """Return the weights and biases of all convolutions."""
        net, found = self.net, dict[str, Array]()
        last: str | None = None  # the neurons before, None where there are none
        for index in range(net.arch.stem.convs):
            found |= self.convolution(f"stem.conv{index}", f"stem.bn{index}", last)
            last = f"stem.lif{index}" if index < net.fired_in_stem else None
        for block in net.blocks():
            name = block.name
            inner = ("lif1", "lif2") if net.passes_currents else (None, "lif1")
            first, second = (f"{name}.{layer}" if layer else last for layer in inner)
            merge = self.merge(block)
            found |= self.convolution(f"{name}.conv1", f"{name}.bn1", first)
            found |= self.convolution(f"{name}.conv2", f"{name}.bn2", second, merge)
            if net.has_projection(block):
                found |= self.convolution(f"{name}.skip.conv", f"{name}.skip.bn", last, merge)
            last = None if net.passes_currents else f"{name}.lif2"
        return found

    def convolution(
        self, conv: str, norm: str, before: str | None, merge: float = 1.0
    ) -> Mapping[str, Array]:
        """Return a convolution's weights and bias, and where T is fixed its gain."""
        w = self.params[f"{conv}.weight"] * np.reshape(self.amplitude(before), (-1, 1))
        if isinstance(self.net.norm_model, PSPBN):
            model, moment = self.net.norm_model, self.buffers[f"{norm}.running_var"]
            s = 1 / (moment + self.net.norm.eps)
            factor = self.params[f"{norm}.weight"] * (np.sqrt(s) if model.root else s)  # M15
            return {f"{conv}.weight": w * factor[:, None], f"{conv}.bias": np.zeros(w.shape[-1])}
        scale, bias = self.affine(norm, merge)
        if scale.ndim == 2:
            return {f"{conv}.weight": w, f"{conv}.gain": scale, f"{conv}.bias": bias}
        return {f"{conv}.weight": w * scale, f"{conv}.bias": bias}

    def affine(self, norm: str, merge: float) -> tuple[Array, Array]:
        """Return scale and bias, (C,) or (T, C), that a batch norm of running statistics is."""
        model, constants = self.net.norm_model, self.net.norm_constants
        if model is None:
            gamma, beta = self.params[f"{norm}.weight"], self.params[f"{norm}.bias"]
        else:
            gamma, beta = model.affine(own(self.params, norm, model))
        mean, var = (self.buffers[f"{norm}.running_{which}"] for which in ("mean", "var"))
        scale = gamma * (constants.scale * merge) / np.sqrt(var + constants.eps)  # M1  # M2
        return scale, beta - mean * scale

    def merge(self, block: Block) -> float:
        """Return the factor on batch norms that meet in this block's sum."""
        net = self.net
        return net.merge_scale if net.has_projection(block) or net.norm_identity else 1.0  # M2

    def identities(self) -> Params:
        """Return the factor and the bias of each skip without a convolution."""
        net, found, last = self.net, dict[str, Array](), f"stem.lif{self.net.arch.stem.convs - 1}"
        for block in net.blocks():
            name = f"{block.name}.skip.bn"
            if not net.has_projection(block):
                if net.norm_identity:
                    scale, bias = self.affine(name, net.merge_scale)
                else:
                    scale, bias = np.ones(block.c_out), np.zeros(block.c_out)
                    if net.norm_model is not None and net.norm_model.by_step:
                        scale, bias = (np.tile(x, (net.steps, 1)) for x in (scale, bias))
                scale = scale * self.amplitude(None if net.passes_currents else last)
                found |= {f"{name}.weight": scale, f"{name}.bias": bias}
            last = f"{block.name}.lif2"
        return found

    def heads(self) -> Params:
        """Return the weights of the head's linear layers, after the amplitudes of its neurons."""
        last = "final.lif" if self.net.passes_currents else f"{self.net.blocks()[-1].name}.lif2"
        found = dict[str, Array]()
        for layer in ("hidden", "fc"):
            name = f"head.{layer}"
            if f"{name}.weight" in self.params:
                w, bias = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
                w = w * np.reshape(self.amplitude(last), (-1, 1))
                found |= {f"{name}.weight": w, f"{name}.bias": bias}
                last = "head.lif"
        return found

    def neurons(self, name: str) -> Params:
        """Return the parameters of a layer of neurons that it has for inference."""
        model = self.net.neuron_model
        if model is None or isinstance(model, RealSpike):
            return {}
        params = own(self.params, name, model)
        if isinstance(model, MPBN):
            mean, var = (self.buffers[f"{name}.running_{which}"] for which in ("mean", "var"))
            params = threshold_of_mpbn(params, mean, var, self.net.lif)
        return {f"{name}.{key}": x for key, x in params.items()}
