"""The whole network (D8 to D12, D18 to D21) and its gradient by Eq. 9.

Every branch is back-propagated alone, through all blocks below it (Eq. 8); then the branches'
gradients are added.
"""

import numpy as np

from refsnn.oracle.naive import batchnorm, layers, neuron, potentials


def blocks(net):
    """List the residual blocks in order.

    Each has a name, channels "in" and "out", stride, whether it projects, and its branch.
    """
    found = []
    channels, stages = net["stem"]["width"], len(net["depths"])
    for s in range(1, stages + 1):
        depth, width = net["depths"][s - 1], net["widths"][s - 1]
        for b in range(depth):
            name, branch = f"stage{s}.block{b}", None
            very_last = s == stages and b == depth - 1
            if net["branches"] == "block" and not very_last:
                branch = f"branch.{name}"
            if net["branches"] == "stage" and not very_last and b == depth - 1:
                branch = f"branch.stage{s}"
            stride = 2 if s > 1 and b == 0 else 1
            project = stride != 1 or channels != width
            found.append(
                {
                    "name": name,
                    "in": channels,
                    "out": width,
                    "stride": stride,
                    "project": project,
                    "branch": branch,
                }
            )
            channels = width
    return found


def shapes(net):
    """Return the shape of every parameter by name."""
    stem, result = net["stem"], {}
    channels = net["in_channels"]
    for i in range(stem["convs"]):
        size = stem["kernel"]
        result |= _conv_bn_shapes(f"stem.conv{i}", f"stem.bn{i}", size, channels, stem["width"])
        channels = stem["width"]
    for block in blocks(net):
        name, c_in, c_out = block["name"], block["in"], block["out"]
        result |= _conv_bn_shapes(f"{name}.conv1", f"{name}.bn1", 3, c_in, c_out)
        result |= _conv_bn_shapes(f"{name}.conv2", f"{name}.bn2", 3, c_out, c_out)
        if block["project"]:
            result |= _conv_bn_shapes(f"{name}.skip.conv", f"{name}.skip.bn", 1, c_in, c_out)
        if block["branch"]:
            result |= _fc_shapes(f"{block['branch']}.fc", c_out, net["num_classes"])
    features = net["widths"][-1]
    if net["hidden"]:
        result |= _fc_shapes("head.hidden", features, net["hidden"])
        features = net["hidden"]
    return result | _fc_shapes("head.fc", features, net["num_classes"])


def forward(net, params, buffers, x_seq, training=True):
    """Compute a forward pass on x_seq (T, N, H, W, C).

    Returns "branches" [(N, K)], their "step_logits" [(T, N, K)] before the readout, "spikes",
    "u_pre" and "u" (after the reset) by layer, and the new "buffers".
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

    `sources` are, by layer, the gradients of a loss of its potentials at each of them. They are
    back-propagated with the main branch, and with no other.
    """
    run = _forward(net, params, buffers, x_seq, training)
    result = {name: np.zeros(shape) for name, shape in shapes(net).items()}
    chain = blocks(net)
    below = [j + 1 for j, block in enumerate(chain) if block["branch"]] + [len(chain)]
    for depth, db_l in zip(below, db, strict=True):
        run["sources"] = (sources or {}) if depth == len(chain) else {}
        branch_grads = _one_branch(run, chain[:depth], depth == len(chain), db_l)
        for name, part in branch_grads.items():
            result[name] = _add(result[name], part)
    return result, run["du_pre"]


def _conv_bn_shapes(conv, bn, size, c_in, c_out):
    return {
        f"{conv}.weight": (size, size, c_in, c_out),
        f"{bn}.weight": (c_out,),
        f"{bn}.bias": (c_out,),
    }


def _fc_shapes(fc, size_in, size_out):
    return {f"{fc}.weight": (size_in, size_out), f"{fc}.bias": (size_out,)}


def _forward(net, params, buffers, x_seq, training):
    """Compute a forward pass that keeps every layer's input in "inputs"."""
    run = {"net": net, "params": params, "buffers": dict(buffers), "training": training}
    run |= {"inputs": {}, "spikes": {}, "u_pre": {}, "u": {}, "du_pre": {}}
    run |= {"branches": [], "step_logits": []}
    x = np.asarray(x_seq, dtype=float)
    stem = net["stem"]
    for i in range(stem["convs"]):
        c = _conv_bn(run, f"stem.conv{i}", f"stem.bn{i}", x, stem["stride"] if i == 0 else 1)
        x = _lif(run, f"stem.lif{i}", c)
    if stem["pool"]:
        x = _pool(run, "stem.pool", x, *stem["pool"])
    for block in blocks(net):
        x = block_forward(run, block, x)
        if block["branch"]:
            run["branches"].append(_head(run, block["branch"], x))
    run["branches"].append(_head(run, "head", x))
    return run


def _one_branch(run, chain, is_main, db_l):
    """Compute the gradients of one branch: its head, the blocks below it, the stem (Eq. 8)."""
    grads, stem = {}, run["net"]["stem"]
    dx = _head_back(run, grads, "head" if is_main else chain[-1]["branch"], db_l)
    for block in reversed(chain):
        dx = block_back(run, grads, block, dx)
    if stem["pool"]:
        dx = _pool_back(run, "stem.pool", dx, *stem["pool"])
    for i in reversed(range(stem["convs"])):
        dc = _lif_back(run, f"stem.lif{i}", dx)
        stride = stem["stride"] if i == 0 else 1
        dx = _conv_bn_back(run, grads, f"stem.conv{i}", f"stem.bn{i}", dc, stride)
    return grads


def block_forward(run, block, x):
    """Compute o = g(f(x) + x) (Eq. 5, D9)."""
    name = block["name"]
    c = _conv_bn(run, f"{name}.conv1", f"{name}.bn1", x, block["stride"])
    spikes = _lif(run, f"{name}.lif1", c)
    f = _conv_bn(run, f"{name}.conv2", f"{name}.bn2", spikes, 1)
    skip, stride = x, block["stride"]
    if block["project"]:
        if _pools_skip(run, block):
            skip, stride = _pool(run, f"{name}.skip.pool", x, 2, 2, 0), 1
        skip = _conv_bn(run, f"{name}.skip.conv", f"{name}.skip.bn", skip, stride)
    return _lif(run, f"{name}.lif2", _add(f, skip))


def block_back(run, grads, block, do):
    name = block["name"]
    dsum = _lif_back(run, f"{name}.lif2", do)
    dspikes = _conv_bn_back(run, grads, f"{name}.conv2", f"{name}.bn2", dsum, 1)
    dc = _lif_back(run, f"{name}.lif1", dspikes)
    dx = _conv_bn_back(run, grads, f"{name}.conv1", f"{name}.bn1", dc, block["stride"])
    if not block["project"]:
        return _add(dx, dsum)
    pools = _pools_skip(run, block)
    stride = 1 if pools else block["stride"]
    dskip = _conv_bn_back(run, grads, f"{name}.skip.conv", f"{name}.skip.bn", dsum, stride)
    if pools:
        dskip = _pool_back(run, f"{name}.skip.pool", dskip, 2, 2, 0)
    return _add(dx, dskip)


def _pools_skip(run, block):
    return run["net"]["downsample"] == "avgpool" and block["stride"] == 2


def _head(run, name, x):
    """Compute a branch's logits: pooling, FC, mean or sum over time (D10, D12).

    The main head may have a second FC layer with a LIF before it (D20).
    """
    run["inputs"][f"{name}.gap"] = x
    features = split(layers.gap_forward(merge(x)), x)
    if name == "head" and run["net"]["hidden"]:
        features = _lif(run, "head.lif", _fc(run, "head.hidden", features))
    step_logits = _fc(run, f"{name}.fc", features)
    run["step_logits"].append(step_logits)
    logits = step_logits.tolist()
    steps, count, classes = len(logits), len(logits[0]), len(logits[0][0])
    result = np.zeros((count, classes))
    for n in range(count):
        for k in range(classes):
            total = 0.0
            for t in range(steps):
                total += logits[t][n][k]
            result[n, k] = total / _readout_divisor(run, steps)
    return result


def _head_back(run, grads, name, db):
    x = run["inputs"][f"{name}.gap"]
    steps = len(x)
    db = np.asarray(db, dtype=float)
    if db.ndim == 2:  # of the readout's logits
        step = np.zeros(db.shape)
        for n in range(db.shape[0]):
            for k in range(db.shape[1]):
                step[n, k] = db[n, k] / _readout_divisor(run, steps)
        db = np.asarray([step] * steps)
    dfeatures = _fc_back(run, grads, f"{name}.fc", db)
    if name == "head" and run["net"]["hidden"]:
        dhidden = _lif_back(run, "head.lif", dfeatures)
        dfeatures = _fc_back(run, grads, "head.hidden", dhidden)
    return split(layers.gap_backward(merge(dfeatures), merge(x).shape), x)


def _readout_divisor(run, steps):
    return {"mean": steps, "sum": 1}[run["net"]["readout"]]


def _conv_bn(run, conv, bn, x, stride):
    run["inputs"][conv] = x
    w = run["params"][f"{conv}.weight"]
    y = split(layers.conv_forward(merge(x), w, stride, len(w) // 2), x)
    run["inputs"][bn] = y
    gamma, beta = run["params"][f"{bn}.weight"], run["params"][f"{bn}.bias"]
    mean, var = f"{bn}.running_mean", f"{bn}.running_var"
    buffers, norm = run["buffers"], run["net"]["norm"]
    z, buffers[mean], buffers[var] = batchnorm.forward(
        y, gamma, beta, buffers[mean], buffers[var], norm, run["training"]
    )
    return z


def _conv_bn_back(run, grads, conv, bn, dz, stride):
    # running statistics enter only in evaluation, where the forward pass has not moved them
    mean, var = run["buffers"][f"{bn}.running_mean"], run["buffers"][f"{bn}.running_var"]
    gamma, norm = run["params"][f"{bn}.weight"], run["net"]["norm"]
    dy, grads[f"{bn}.weight"], grads[f"{bn}.bias"] = batchnorm.backward(
        dz, run["inputs"][bn], gamma, mean, var, norm, run["training"]
    )
    x, w = run["inputs"][conv], run["params"][f"{conv}.weight"]
    dx, grads[f"{conv}.weight"] = layers.conv_backward(merge(dy), merge(x), w, stride, len(w) // 2)
    return split(dx, x)


def _lif(run, name, c):
    run["inputs"][name] = c
    found = neuron.states(c, None, run["net"]["neuron"])
    run["u_pre"][name], run["spikes"][name], run["u"][name] = found["u_pre"], found["o"], found["u"]
    return found["o"]


def _lif_back(run, name, do):
    c, n = run["inputs"][name], run["net"]["neuron"]
    found = neuron.gradients(do, c, None, n)
    before, du_pre, dc = run["du_pre"].get(name), found["du_pre_seq"], found["dc_seq"]
    if name in run.get("sources", {}):
        source = run["sources"][name]
        more = potentials.lif(c, np.zeros(np.shape(c)), n, lambda _: source)["c"]
        du_pre, dc = _add(du_pre, more), _add(dc, more)
    run["du_pre"][name] = du_pre if before is None else _add(before, du_pre)  # of other branches
    return dc


def _fc(run, name, x):
    run["inputs"][name] = x
    w, b = run["params"][f"{name}.weight"], run["params"][f"{name}.bias"]
    return split(layers.linear_forward(merge(x), w, b), x)


def _fc_back(run, grads, name, dy):
    x, w = run["inputs"][name], run["params"][f"{name}.weight"]
    dx, dw, grads[f"{name}.bias"] = layers.linear_backward(merge(dy), merge(x), w)
    grads[f"{name}.weight"] = dw
    return split(dx, x)


def _pool(run, name, x, kernel, stride, padding):
    run["inputs"][name] = x
    return split(layers.avgpool_forward(merge(x), kernel, stride, padding), x)


def _pool_back(run, name, dy, kernel, stride, padding):
    x = run["inputs"][name]
    return split(layers.avgpool_backward(merge(dy), merge(x).shape, kernel, stride, padding), x)


def merge(seq):
    """Reshape (T, N, ...) to (T N, ...): layers without state treat steps as examples."""
    return np.reshape(seq, (-1, *np.shape(seq)[2:]))


def split(merged, like):
    """Reshape (T N, ...) to (T, N, ...), with T and N of `like`."""
    return np.reshape(merged, (*np.shape(like)[:2], *np.shape(merged)[1:]))


def _add(a, b):
    numbers = a.reshape(-1).tolist()
    for j, value in enumerate(b.reshape(-1).tolist()):
        numbers[j] += value
    return np.asarray(numbers, dtype=float).reshape(a.shape)
