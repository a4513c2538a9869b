"""Two networks with other residual blocks than Eq. 5's, and their gradients by Eq. 9.

net["block"] says which; the other entries of `net`, the parameters and buffers, and their names and
shapes (`network.shapes`) are those of `network`.

"sew_add", "sew_and", "sew_iand": SEW-ResNet (Fang et al., 2021). A block joins two trains of
spikes, and no neuron fires after that:
    A = LIF(BN2(conv2(LIF(BN1(conv1(S)))))), O = A + S', A S' or (1 - A) S'
S' is S, or LIF(BN(conv1x1(S))) where the shape changes (neurons "skip.lif"). A block of the same
shape passes S on where A is 0, or 1 under AND. A BN2 with gamma = beta = 0 gives that for ADD and
IAND; AND takes gamma = 0 and beta = 1.5 v_th, which fires at every step (M4).

"ms": MS-ResNet (Hu et al., 2021). Real-valued currents pass from block to block:
    y = skip + BN2(conv2(LIF2(BN1(conv1(LIF1(x))))))
skip is x, or BN(conv1x1(x)) where the shape changes. No neuron follows the stem's last convolution,
whose output currents the stem's pooling averages. Side branches read y itself (M5); neurons
"final.lif" fire before the main head.

As in `network`, every branch is back-propagated alone, and the branches' gradients are added.
"""

import numpy as np

from refsnn.oracle.naive import network

SEW = ("sew_add", "sew_and", "sew_iand")


def forward(net, params, buffers, x_seq, training=True):
    """Compute a forward pass on x_seq (T, N, H, W, C).

    Returns "branches" [(N, K)], their "step_logits" [(T, N, K)] before the readout, "spikes",
    "u_pre" and "u" (after the reset) by layer of neurons, and the new "buffers".
    """
    run = _forward(net, params, buffers, x_seq, training)
    keys = ("branches", "step_logits", "spikes", "u_pre", "u", "buffers")
    return {key: run[key] for key in keys}


def gradients(net, params, buffers, x_seq, db, training=True):
    """Compute the gradients with respect to every parameter.

    db = [dL/db_l] are (N, K), the main branch last; or (T, N, K), those of the logits of every step
    before the readout. Source: Eq. 9.
    """
    return gradients_and_potentials(net, params, buffers, x_seq, db, training)[0]


def gradients_and_potentials(net, params, buffers, x_seq, db, training=True, sources=None):
    """Compute the gradients, and dL/du_pre (T, N, ...) of every layer of neurons.

    `sources` are those of `network.gradients_and_potentials`.
    """
    run = _forward(net, params, buffers, x_seq, training)
    result = {name: np.zeros(shape) for name, shape in network.shapes(net).items()}
    chain = network.blocks(net)
    below = [j + 1 for j, block in enumerate(chain) if block["branch"]] + [len(chain)]
    for depth, db_l in zip(below, db, strict=True):
        run["sources"] = (sources or {}) if depth == len(chain) else {}
        branch_grads = _one_branch(run, chain[:depth], depth == len(chain), db_l)
        for name, part in branch_grads.items():
            result[name] = network._add(result[name], part)
    return result, run["du_pre"]


def block_forward(run, block, x):
    """Compute a block's output: spikes or sums of spikes (SEW-ResNet), or currents (MS-ResNet)."""
    return _ms(run, block, x) if run["net"]["block"] == "ms" else _sew(run, block, x)


def block_back(run, grads, block, do):
    """Compute dL/dx of a block's input from that of its output; put parameters' into grads."""
    if run["net"]["block"] == "ms":
        return _ms_back(run, grads, block, do)
    return _sew_back(run, grads, block, do)


def _forward(net, params, buffers, x_seq, training):
    """Compute a forward pass that keeps every layer's input in "inputs"."""
    if net["block"] not in (*SEW, "ms"):
        raise ValueError(f"unknown block {net['block']!r}")
    run = {"net": net, "params": params, "buffers": dict(buffers), "training": training}
    run |= {"inputs": {}, "spikes": {}, "u_pre": {}, "u": {}, "du_pre": {}}
    run |= {"branches": [], "step_logits": []}
    x = np.asarray(x_seq, dtype=float)
    stem = net["stem"]
    for i in range(stem["convs"]):
        x = _conv_bn(run, "stem", i, x, _stem_stride(net, i))
        if _stem_fires(net, i):
            x = network._lif(run, f"stem.lif{i}", x)
    if stem["pool"]:
        x = network._pool(run, "stem.pool", x, *stem["pool"])
    for block in network.blocks(net):
        x = block_forward(run, block, x)
        if block["branch"]:
            run["branches"].append(network._head(run, block["branch"], x))
    if net["block"] == "ms":
        x = network._lif(run, "final.lif", x)
    run["branches"].append(network._head(run, "head", x))
    return run


def _one_branch(run, chain, is_main, db_l):
    """Compute the gradients of one branch: its head, the blocks below it, the stem (Eq. 8)."""
    grads, net = {}, run["net"]
    dx = network._head_back(run, grads, "head" if is_main else chain[-1]["branch"], db_l)
    if is_main and net["block"] == "ms":
        dx = network._lif_back(run, "final.lif", dx)
    for block in reversed(chain):
        dx = block_back(run, grads, block, dx)
    if net["stem"]["pool"]:
        dx = network._pool_back(run, "stem.pool", dx, *net["stem"]["pool"])
    for i in reversed(range(net["stem"]["convs"])):
        if _stem_fires(net, i):
            dx = network._lif_back(run, f"stem.lif{i}", dx)
        dx = _conv_bn_back(run, grads, "stem", i, dx, _stem_stride(net, i))
    return grads


def _stem_stride(net, i):
    return net["stem"]["stride"] if i == 0 else 1


def _stem_fires(net, i):
    """Tell whether neurons follow the stem's convolution i."""
    return net["block"] != "ms" or i < net["stem"]["convs"] - 1


def _sew(run, block, x):
    """Compute O = g(A, S') (SEW-ResNet; Fang et al., 2021)."""
    name = block["name"]
    c = _conv_bn(run, name, 1, x, block["stride"])
    c = _conv_bn(run, name, 2, network._lif(run, f"{name}.lif1", c), 1)
    a = network._lif(run, f"{name}.lif2", c)
    s = x
    if block["project"]:
        s = network._lif(run, f"{name}.skip.lif", _projected(run, block, x))
    run["inputs"][f"{name}.joined"] = (a, s)
    a_list, s_list = _numbers(a, s)
    o = []
    for a_i, s_i in zip(a_list, s_list, strict=True):
        if run["net"]["block"] == "sew_add":
            o.append(a_i + s_i)
        elif run["net"]["block"] == "sew_and":
            o.append(a_i * s_i)
        else:
            o.append((1.0 - a_i) * s_i)
    return np.asarray(o, dtype=float).reshape(a.shape)


def _sew_back(run, grads, block, do):
    """Compute dL/dS: by way of A, whose second neurons fire into g, and by way of S'."""
    name = block["name"]
    a, s = run["inputs"][f"{name}.joined"]
    a_list, s_list, do_list = _numbers(a, s, do)
    da, ds = [], []
    for a_i, s_i, do_i in zip(a_list, s_list, do_list, strict=True):
        if run["net"]["block"] == "sew_add":
            by_a, by_s = 1.0, 1.0
        elif run["net"]["block"] == "sew_and":
            by_a, by_s = s_i, a_i
        else:
            by_a, by_s = -s_i, 1.0 - a_i
        da.append(do_i * by_a)
        ds.append(do_i * by_s)
    da = np.asarray(da, dtype=float).reshape(a.shape)
    ds = np.asarray(ds, dtype=float).reshape(a.shape)
    dc = network._lif_back(run, f"{name}.lif2", da)
    dspikes = _conv_bn_back(run, grads, name, 2, dc, 1)
    dc = network._lif_back(run, f"{name}.lif1", dspikes)
    dx = _conv_bn_back(run, grads, name, 1, dc, block["stride"])
    if block["project"]:
        dc = network._lif_back(run, f"{name}.skip.lif", ds)
        ds = _projected_back(run, grads, block, dc)
    return network._add(dx, ds)


def _ms(run, block, x):
    """Compute y = skip + BN2(conv2(LIF2(BN1(conv1(LIF1(x)))))) (MS-ResNet; Hu et al., 2021)."""
    name = block["name"]
    c = _conv_bn(run, name, 1, network._lif(run, f"{name}.lif1", x), block["stride"])
    f = _conv_bn(run, name, 2, network._lif(run, f"{name}.lif2", c), 1)
    skip = _projected(run, block, x) if block["project"] else x
    f_list, skip_list = _numbers(f, skip)
    y = [f_i + skip_i for f_i, skip_i in zip(f_list, skip_list, strict=True)]
    return np.asarray(y, dtype=float).reshape(f.shape)


def _ms_back(run, grads, block, dy):
    """Compute dL/dx: by way of the first neurons, and by way of the skip, which has none."""
    name = block["name"]
    dspikes = _conv_bn_back(run, grads, name, 2, dy, 1)
    dc = network._lif_back(run, f"{name}.lif2", dspikes)
    dspikes = _conv_bn_back(run, grads, name, 1, dc, block["stride"])
    dx = network._lif_back(run, f"{name}.lif1", dspikes)
    dskip = _projected_back(run, grads, block, dy) if block["project"] else dy
    return network._add(dx, dskip)


def _projected(run, block, x):
    """Compute BN(conv1x1(x)) of a skip; in a network that pools there (D9), of the pooled x."""
    name, stride = f"{block['name']}.skip", block["stride"]
    if network._pools_skip(run, block):
        x, stride = network._pool(run, f"{name}.pool", x, 2, 2, 0), 1
    return network._conv_bn(run, f"{name}.conv", f"{name}.bn", x, stride)


def _projected_back(run, grads, block, dc):
    name, stride = f"{block['name']}.skip", block["stride"]
    pools = network._pools_skip(run, block)
    dx = network._conv_bn_back(run, grads, f"{name}.conv", f"{name}.bn", dc, 1 if pools else stride)
    return network._pool_back(run, f"{name}.pool", dx, 2, 2, 0) if pools else dx


def _conv_bn(run, name, i, x, stride):
    return network._conv_bn(run, f"{name}.conv{i}", f"{name}.bn{i}", x, stride)


def _conv_bn_back(run, grads, name, i, dz, stride):
    return network._conv_bn_back(run, grads, f"{name}.conv{i}", f"{name}.bn{i}", dz, stride)


def _numbers(*arrays):
    """Return arrays of one shape as lists of numbers."""
    shapes = {np.shape(array) for array in arrays}
    if len(shapes) > 1:
        raise ValueError(f"a block and its skip differ in shape: {sorted(shapes)}")
    return [np.asarray(array, dtype=float).reshape(-1).tolist() for array in arrays]
