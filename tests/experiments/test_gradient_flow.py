"""The ledger's norms against finite differences of a smooth network, and its identities."""

import json
from contextlib import contextmanager
from dataclasses import replace
from math import hypot, prod

import numpy as np
import pytest

from refsnn.experiments.gradient_flow import FIRST, SMALL, ledger, parts, watch
from refsnn.network import (
    BLOCKS,
    Network,
    Stem,
    architecture,
    backward,
    encode,
    forward,
    init_buffers,
    init_params,
    model,
    neuron_caches,
)
from refsnn.network.blocks import KINDS
from refsnn.ops import LIF, NEURONS, NUMPY, AvgPool, get_ops, make_surrogate

SMOOTH = LIF(tau=0.7, v_th=0.5, smooth=True)
TERMS = ("firing", "leak", "reset")
BLOCK = pytest.mark.parametrize("block", BLOCKS)


def case(arch="1-2:3-4", images=4, size=8, width=1, stem=None, dtype="float64", **settings):
    """Network, parameters, running statistics, images and labels; all layers fire."""
    made = architecture(arch).scaled(width)
    net = Network(replace(made, stem=stem or made.stem), 2, 3, **settings)
    rng = np.random.default_rng(5)
    params = {n: p + 0.2 * rng.normal(size=p.shape) for n, p in init_params(net, rng).items()}
    params |= {n: p + 0.7 for n, p in params.items() if "bn" in n and n.endswith("bias")}
    params = {name: p.astype(dtype) for name, p in params.items()}
    x, labels = rng.normal(size=(images, size, size, 2)).astype(dtype), rng.integers(0, 3, images)
    return net, params, init_buffers(net, dtype), x, labels


def layer_of(found, name):
    (row,) = [row for row in found.layers if row["layer"] == name]
    return row


def run_of(built, steps, side, branch_sum="logits"):
    """A forward pass, and dL/db_l."""
    net, params, buffers, images, labels = built
    run = forward(net, params, buffers, encode(images, steps), NUMPY)
    _, cache = NUMPY.objective_forward(run.branches, labels, side, branch_sum)
    return run, NUMPY.objective_backward(cache)


def norms(x_seq):
    return [np.linalg.norm(x) for x in x_seq]


def differences(built, steps, db, shape, shifted):
    """d(db_l . b_l) by what `shifted(shift)` shifts in a forward pass, (branches, *shape).

    Forward passes alone: `shifted` is a context in which they are made, and gives the operations.
    """
    net, params, buffers, images, _ = built

    def logits(shift):
        with shifted(shift) as ops:
            return forward(net, params, buffers, encode(images, steps), ops).branches

    found, shift = np.zeros((len(db), *shape)), np.zeros(shape)
    for at in np.ndindex(shape):
        shift[at] = 1e-5
        pairs = zip(logits(shift), logits(-shift), db, strict=True)
        found[(slice(None), *at)] = [(g * (up - down)).sum() / 2e-5 for up, down, g in pairs]
        shift[at] = 0
    return found


def currents(layer, layers):
    """Shifts the currents of a layer of neurons, by its place in the forward pass."""

    @contextmanager
    def shifted(shift):
        calls = iter(layers)

        def lif_forward(c_seq, u0, p):
            return NUMPY.lif_forward(c_seq + (shift if next(calls) == layer else 0), u0, p)

        yield replace(NUMPY, lif_forward=lif_forward)

    return shifted


def outputs_at(place):
    """Shifts what a block or the stem's last unit passes on."""

    def moved(pass_on, chosen, shift):
        def shifting(*args, **options):
            y_seq, cache = pass_on(*args, **options)
            return y_seq + (shift if chosen(*args, **options) else 0), cache

        return shifting

    @contextmanager
    def shifted(shift):
        with pytest.MonkeyPatch.context() as patch:
            if place == "stem":
                unit = moved(
                    model.stem_unit_forward,
                    lambda x, index, context: index + 1 == context.net.arch.stem.convs,
                    shift,
                )
                patch.setattr(model, "stem_unit_forward", unit)
            for name, kind in KINDS.items():
                block = moved(kind.forward, lambda x, block, context: block.name == place, shift)
                patch.setitem(KINDS, name, kind._replace(forward=block))
            yield NUMPY

    return shifted


@pytest.mark.parametrize(
    ("layer", "block", "branch_sum"),
    [
        ("stage1.block0.lif1", "basic", "logits"),
        ("stage2.block0.lif2", "basic", "losses"),
        ("stem.lif0", "sew_add", "logits"),
        ("stage1.block0.lif2", "sew_and", "losses"),
        ("stage2.block0.skip.lif", "sew_and", "logits"),
        ("stage1.block0.lif2", "sew_iand", "logits"),
        ("stage2.block0.skip.lif", "sew_iand", "logits"),
        ("stage1.block0.lif1", "ms", "logits"),
        ("stage2.block0.lif1", "ms", "losses"),
        ("final.lif", "ms", "logits"),
    ],
)
def test_norms_are_those_of_the_slopes_by_each_input_current(layer, block, branch_sum):
    """u_pre[t] = tau u[t-1] + c[t], so delta[t] is dL/dc[t]."""
    built, steps, side = case("1-1:1-2", images=2, size=4, lif=SMOOTH, block=block), 3, 0.5
    run, db = run_of(built, steps, side, branch_sum)
    caches = dict(neuron_caches(run))
    through = differences(built, steps, db, caches[layer].o_seq.shape, currents(layer, caches))
    found = ledger(*built, steps, NUMPY, side, branch_sum)
    row = layer_of(found, layer)
    assert found.branches == list(row["through"]) == ["branch.stage1", "head"]
    for branch, delta in zip(found.branches, through, strict=True):
        assert row["through"][branch] == pytest.approx(norms(delta), rel=1e-6, abs=1e-12)
    delta, (u_pre, o, _, p) = through.sum(axis=0), caches[layer]
    h = p.surrogate.slope(u_pre - p.v_th, p.v_th)
    later = p.tau * np.append(delta[1:], np.zeros_like(delta[:1]), axis=0)
    leak, reset = later * (1 - o), -later * u_pre * h
    assert row["total"] == pytest.approx(norms(delta), rel=1e-6)
    assert row["leak"] == pytest.approx(norms(leak), rel=1e-6)
    assert row["reset"] == pytest.approx(norms(reset), rel=1e-6)
    assert row["firing"] == pytest.approx(norms(delta - leak - reset), rel=1e-6)
    assert min(row["total"]) > 1e-6


@pytest.mark.parametrize(
    ("block", "stem", "size"),
    [(block, Stem(), 4) for block in BLOCKS]
    + [(block, Stem(convs=2, pool=AvgPool(2, 2)), 8) for block in ("basic", "ms")],
)
@pytest.mark.slow_after(2)
def test_the_chain_is_of_slopes_by_the_blocks_outputs_through_the_main_branch(block, stem, size):
    built = case("1-1:1-2", images=2, size=size, stem=stem, lif=SMOOTH, block=block)
    steps, side = 2, 0.5
    _, db = run_of(built, steps, side)
    chain = ledger(*built, steps, NUMPY, side).chain
    pooled = 2 if stem.pool is not None else 1
    shapes = {
        "stage2.block0": (steps, 2, size // pooled // 2, size // pooled // 2, 2),
        "stage1.block0": (steps, 2, size // pooled, size // pooled, 1),
        "stem": (steps, 2, size, size, 1),
    }
    assert [row["at"] for row in chain] == ["logits", *shapes, FIRST]
    for row in chain[1:-1]:
        of_main = differences(built, steps, db, shapes[row["at"]], outputs_at(row["at"]))[-1]
        assert row["norm"] == pytest.approx(np.linalg.norm(of_main), rel=1e-6)
        assert row["norm"] > 1e-6
    assert chain[0]["norm"] == pytest.approx(np.linalg.norm(db[-1]), rel=1e-12)


@BLOCK
@pytest.mark.parametrize("name", [None, "plif"])
def test_terms_add_up_to_the_gradients_of_the_biases_before_the_neurons(name, block):
    """A bias before neurons gets dL/dc, and with it the whole delta (PLIF: times the gain)."""
    neuron = NEURONS[name]() if name else None
    built = case(block=block, branches="none", neuron_model=neuron, lif=LIF(0.6, 0.8))
    net, steps = built[0], 3
    run, db = run_of(built, steps, 0.0)
    grads = backward(run, db)
    by_layer = {row["layer"]: row for row in ledger(*built, steps, NUMPY, 0.0).layers}
    deltas = watch(run, db, lambda do_seq, delta_seq, cache: delta_seq.copy())[1]
    caches, by_bias = dict(neuron_caches(run)), {}
    assert list(by_layer) == list(caches) == net.neurons()
    for layer, delta_seq in deltas.items():
        row = by_layer[layer]
        assert row["total"] == pytest.approx(norms(delta_seq), rel=1e-12)
        for rest, *terms in zip(row["rest"], *(row[way] for way in TERMS), strict=True):
            assert rest <= 1e-14 * sum(terms)
        gain = caches[layer].constants.gain[:, None, None, None] if name else 1
        by_bias[layer] = (gain * delta_seq).sum(axis=(0, 1, 2, 3))
    ms, last = block == "ms", "stage2.block1"
    if ms:  # two paths into the sum before: the next block's neurons, and its bare skip
        by_bias["stage2.block1.lif1"] += grads["stage2.block1.bn2.bias"]
    wanted = {
        "stage1.block0.lif2": "stage1.block0.bn1" if ms else "stage1.block0.bn2",
        "stage2.block1.lif1": "stage2.block0.bn2" if ms else "stage2.block1.bn1",
        "stage2.block1.lif2": "stage2.block1.bn1" if ms else "stage2.block1.bn2",
    }
    wanted |= {"final.lif": f"{last}.bn2"} if ms else {"stem.lif0": "stem.bn0"}
    if block.startswith("sew"):
        wanted["stage2.block0.skip.lif"] = "stage2.block0.skip.bn"
    for layer, bias in wanted.items():
        want = grads[f"{bias}.bias"]
        np.testing.assert_allclose(by_bias[layer], want, rtol=1e-10, atol=1e-15, err_msg=layer)
        assert want.any()


@pytest.mark.parametrize(("arch", "width"), [("2-2:3-4", 1), ("resnet20m", 1 / 32)])
def test_the_chains_factors_multiply_to_its_last_norm(arch, width):
    built = case(arch, width=width)
    found = ledger(*built, 3, NUMPY, 1.0)
    first, *rest = found.chain
    assert first["factor"] is None
    assert first["norm"] * prod(row["factor"] for row in rest) == pytest.approx(rest[-1]["norm"])
    assert rest[-1]["norm"] == found.first_layer["branches"]["head"]["norm"]
    blocks = [block.name for block in reversed(built[0].blocks())]
    assert [row["at"] for row in rest] == [*blocks, "stem", FIRST]


def test_eq_3_by_hand_for_the_last_neurons_with_the_reset_detached():
    steps, lif = 4, LIF(reset_gradient="detached")
    built = case(lif=lif)
    run, db = run_of(built, steps, 1.0)
    u_pre, o, _, _ = dict(neuron_caches(run))["stage2.block1.lif2"]
    pixels = o.shape[2] * o.shape[3]
    g_o = (db[-1] @ built[1]["head.fc.weight"].T / (pixels * steps))[:, None, None]
    h = 0.5 * (1 - np.tanh(u_pre - 1) ** 2)
    row, delta = layer_of(ledger(*built, steps, NUMPY, 1.0), "stage2.block1.lif2"), 0 * o[0]
    for t in reversed(range(steps)):
        leak = 0.5 * delta * (1 - o[t])
        delta = g_o * h[t] + leak
        assert row["firing"][t] == pytest.approx(np.linalg.norm(g_o * h[t]))
        assert row["leak"][t] == pytest.approx(np.linalg.norm(leak))
        assert row["total"][t] == pytest.approx(np.linalg.norm(delta))
        assert row["rate"][t] == o[t].mean()
        assert row["mean_slope"][t] == pytest.approx(h[t].mean())


@pytest.mark.parametrize("reset_gradient", ["full", "detached"])
def test_a_detached_reset_passes_no_gradient(reset_gradient):
    found = ledger(*case(lif=LIF(reset_gradient=reset_gradient)), 3, NUMPY, 1.0)
    for row in found.layers:
        assert [size > 0 for size in row["reset"]] == [reset_gradient == "full"] * 2 + [False]
        assert [size > 0 for size in row["leak"]] == [True, True, False]


@BLOCK
@pytest.mark.parametrize("name", NEURONS)
def test_the_terms_of_neurons_with_parameters_add_up_to_delta(name, block):
    lif = LIF(v_th=0.6, reset="subtract" if name == "diet" else "zero")
    built = case(neuron_model=NEURONS[name](), lif=lif, steps=3 * (name == "glif"), block=block)
    found = ledger(*built, 3, NUMPY, 1.0)
    for row in found.layers:
        assert all(row[way][0] > 0 for way in TERMS)
        for rest, *terms in zip(row["rest"], *(row[way] for way in TERMS), strict=True):
            assert rest <= 1e-14 * sum(terms)


def test_one_step_has_no_leak_and_no_reset():
    for row in ledger(*case(), 1, NUMPY, 1.0).layers:
        assert row["leak"] == row["reset"] == row["rest"] == [0.0]
        assert row["firing"] == row["total"] > [0.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_parts_add_up_to_the_whole_within_rounding(name, dtype):
    found = ledger(*case(dtype=dtype, branches="block"), 3, get_ops(name), 0.5)
    eps = np.finfo(dtype).eps
    for row in found.layers:
        for rest, *terms in zip(row["rest"], *(row[way] for way in TERMS), strict=True):
            assert rest <= 4 * eps * sum(terms)  # a product more than the recursion, and three sums
    first = found.first_layer
    assert len(first["branches"]) == 3
    assert first["rest"] <= {"float32": 1e-5, "float64": 1e-14}[dtype] * first["norm"]
    left = abs(sum(row["share"] for row in first["branches"].values()) - 1)
    assert left <= first["rest"] / first["norm"] + 1e-15  # the rest's own share


def test_a_difference_from_the_terms_is_left_in_rest():
    """The recursion leaves out the reset, though the neurons' reset gradient is full."""

    def lif_backward(do_seq, cache, constants=True):
        detached = cache._replace(p=replace(cache.p, reset_gradient="detached"))
        return NUMPY.lif_backward(do_seq, detached, constants)

    for row in ledger(*case(), 3, replace(NUMPY, lif_backward=lif_backward), 1.0).layers:
        assert row["rest"] == pytest.approx(row["reset"])
        assert row["rest"][0] > 0


@BLOCK
def test_parts_of_the_first_gradient_are_those_of_each_branch_alone(block):
    built = case("1-1-1:3-4-5", block=block)
    run, db = run_of(built, 3, 0.5)
    first = ledger(*built, 3, NUMPY, 0.5).first_layer
    total = backward(run, db)[FIRST]
    assert first["parameter"] == FIRST
    assert first["norm"] == pytest.approx(np.linalg.norm(total))
    for only, row in enumerate(first["branches"].values()):
        part = backward(run, [g * (k == only) for k, g in enumerate(db)])[FIRST]
        assert row["norm"] == pytest.approx(np.linalg.norm(part))
        cosine = (part * total).sum() / np.linalg.norm(part) / np.linalg.norm(total)
        assert row["cosine"] == pytest.approx(cosine)
        assert row["share"] == pytest.approx(cosine * row["norm"] / first["norm"])


def test_a_part_that_opposes_the_sum_has_a_negative_cosine_and_share():
    main, side = np.array([3.0, 0.0]), np.array([-1.0, 1.0])
    found = parts(main + side, {"head": main, "branch": side})["branches"]
    size = np.sqrt(2) * np.sqrt(5)
    assert found["branch"]["cosine"] == pytest.approx(-1 / size)
    assert found["branch"]["share"] == pytest.approx(-1 / 5)
    assert found["head"]["share"] == pytest.approx(6 / 5)


def test_a_branch_reaches_only_the_layers_before_it():
    found = ledger(*case("1-1-1:3-4-5"), 2, NUMPY, 1.0)
    for row in found.layers:
        reached = [branch for branch, steps in row["through"].items() if hypot(*steps) > 0]
        stage = row["layer"].split(".")[0]
        behind = {"stem": 0, "stage1": 0, "stage2": 1, "stage3": 2}[stage]
        assert reached == found.branches[behind:]


def test_a_vanilla_network_has_one_branch_with_the_whole_gradient():
    found = ledger(*case(branches="none"), 2, NUMPY, 0.0)
    assert found.branches == ["head"]
    for row in found.layers:
        assert row["through"] == {"head": row["total"]}
    assert found.first_layer["branches"] == {
        "head": {"norm": found.first_layer["norm"], "cosine": pytest.approx(1), "share": 1.0}
    }
    assert found.first_layer["rest"] == 0


def test_side_branches_of_weight_0_have_no_part_and_no_cosine():
    built = case()
    found = ledger(*built, 2, NUMPY, 0.0)
    assert found.first_layer["branches"]["branch.stage1"] == {
        "norm": 0.0,
        "cosine": None,
        "share": 0.0,
    }
    main = {name: p for name, p in built[1].items() if not name.startswith("branch.")}
    bare = ledger(replace(built[0], branches="none"), main, *built[2:], 2, NUMPY, 0.0)
    assert found.chain == bare.chain
    assert found.loss == bare.loss


def test_factors_after_a_zero_gradient_are_none():
    net, params, *rest = case(branches="none")
    params = params | {"head.fc.weight": np.zeros_like(params["head.fc.weight"])}
    found = ledger(net, params, *rest, 2, NUMPY, 0.0)
    assert [row["norm"] > 0 for row in found.chain] == [True] + [False] * (len(found.chain) - 1)
    assert [row["factor"] for row in found.chain[:3]] == [None, 0.0, None]
    assert found.first_layer["branches"]["head"]["share"] is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("arch", "width", "block"),
    [("1-2:3-4", 1, block) for block in BLOCKS] + [("resnet19-tet", 1 / 32, "basic")],
)
def test_both_sets_of_operations_give_the_same_ledger(arch, width, block, dtype):
    built = case(arch, width=width, dtype=dtype, block=block)
    one, other = (ledger(*built, 3, get_ops(name), 0.5) for name in ("numpy", "numba"))
    tolerance = {"float32": 1e-3, "float64": 1e-9}[dtype]
    for row, same in zip(one.layers, other.layers, strict=True):
        assert row["layer"] == same["layer"]
        assert row["rate"] == same["rate"]  # no spike flipped, so norms may be compared
        for way in ("total", *TERMS, "mean_slope"):
            assert same[way] == pytest.approx(row[way], rel=tolerance)
        for branch, steps in row["through"].items():
            assert same["through"][branch] == pytest.approx(steps, rel=tolerance)
    for row, same in zip(one.chain, other.chain, strict=True):
        assert same["norm"] == pytest.approx(row["norm"], rel=tolerance)
    assert (one.layers[-1]["layer"] == "head.lif") == (arch == "resnet19-tet")


@pytest.mark.parametrize("kind", ["rectangular", "triangular", "tanh"])
def test_shares_of_slopes_that_are_zero_and_small(kind):
    surrogate = make_surrogate(kind)
    built = case(lif=LIF(surrogate=surrogate))
    run, _ = run_of(built, 3, 1.0)
    found, peak = ledger(*built, 3, NUMPY, 1.0), {"rectangular": 1, "triangular": 1, "tanh": 0.5}
    zeros = 0
    for name, cache in neuron_caches(run):
        row = layer_of(found, name)
        for t, u_pre in enumerate(cache.u_pre_seq):
            h = surrogate.slope(u_pre - 1, 1.0)
            assert row["zero_slope"][t] == (h == 0).mean()
            assert row["small_slope"][t] == (h < SMALL * peak[kind]).mean()
            assert row["mean_slope"][t] == pytest.approx(h.mean())
            zeros += (h == 0).sum()
    assert (zeros > 0) == (kind != "tanh")
    assert any(0 < share < 1 for row in found.layers for share in row["small_slope"])


def test_a_ledger_can_be_written_as_json():
    found = ledger(*case(dtype="float32"), 2, get_ops("numba"), 0.5)
    assert json.loads(json.dumps(found._asdict(), allow_nan=False)) == found._asdict()


def test_running_statistics_and_parameters_stay():
    net, params, buffers, images, labels = case()
    for array in (*params.values(), *buffers.values(), images):
        array.flags.writeable = False  # writing raises
    once, again = (ledger(net, params, buffers, images, labels, 2, NUMPY, 1.0) for _ in range(2))
    assert once == again


@pytest.mark.parametrize(("dtype", "slope"), [("float32", 1e20), ("float64", 1e160)])
def test_the_first_layer_with_a_gradient_that_is_not_finite_is_named(dtype, slope):
    """The last layer of neurons multiplies by `slope`, the one before by its square in all."""
    built = case(dtype=dtype, lif=LIF(surrogate=make_surrogate("tanh", slope)))
    with pytest.raises(ValueError, match=r"^params: the gradient of stage2.block1.\S+ holds NaN"):
        ledger(*built, 1, NUMPY, 0.0)


@pytest.mark.parametrize("side", [-1.0, float("nan"), float("inf")])
def test_an_invalid_weight_of_the_side_branches_is_refused(side):
    with pytest.raises(ValueError, match=f"^side: got {side}, want a finite number of at least 0"):
        ledger(*case(), 2, NUMPY, side)
