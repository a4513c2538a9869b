"""PyTorch modules as they are: how they are called, what they show, what is told of wrong ones."""

import subprocess
import sys
import textwrap

import pytest

import refsnn

torch = pytest.importorskip("torch")
from refsnn.oracle.adapters.module import kind_of  # noqa: E402  # needs torch
from refsnn.oracle.declare import USUAL  # noqa: E402

(TANH,) = refsnn.cases(pattern="neuron/tanh")
(FRESH,) = refsnn.cases(pattern="neuron/fresh")
(DETACHED,) = refsnn.cases(pattern="neuron/detached-reset")


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 0.5 * (1 - torch.tanh(x) ** 2)


def step(c_t, u):
    u_pre = 0.5 * u + c_t
    o = Spike.apply(u_pre - 1)
    return u_pre, o, u_pre * (1 - o)


class Sequence(torch.nn.Module):
    def forward(self, c):
        u, spikes, potentials = torch.zeros_like(c[0]), [], []
        for c_t in c:
            u_pre, o, u = step(c_t, u)
            spikes.append(o)
            potentials.append(u_pre)
        self.mem_seq = torch.stack(potentials)
        return torch.stack(spikes)


class WithInfo(Sequence):
    def forward(self, c):
        return super().forward(c), {"some": "thing"}


class Batches(Sequence):
    def forward(self, c):
        _, _, _ = c.shape
        return super().forward(c)


class BatchedSteps(torch.nn.Module):
    def forward(self, c_t, mem):
        batch, _ = c_t.shape
        _, o, u = step(c_t, mem)
        return o.reshape(batch, -1), u


class Inside(torch.nn.Module):
    """Keeps its state, and never forgets it."""

    def __init__(self):
        super().__init__()
        self.v = 0.0

    def forward(self, c_t):
        _, o, self.v = step(c_t, self.v)
        return o


class Resets(Inside):
    def reset(self):
        self.v = 0.0


class Holder(torch.nn.Module):
    """Has the neuron as a part."""

    def __init__(self):
        super().__init__()
        self.neuron = Resets()

    def forward(self, c_t):
        return self.neuron(c_t)


class FromZeros(torch.nn.Module):
    """Its state is before the reset, which comes with the next step."""

    def forward(self, c_t, mem):
        u_pre, o, _ = step(c_t, mem * (1 - Spike.apply(mem - 1)))
        return o, u_pre


class FromNone(torch.nn.Module):
    def forward(self, c_t, mem=None):
        _, o, u = step(c_t, torch.zeros_like(c_t) if mem is None else mem)
        return o, u


class FromMethod(torch.nn.Module):
    """Needs a state that it makes itself, of two parts."""

    def init_state(self):
        return torch.zeros(1), torch.zeros(1)

    def forward(self, c_t, count, mem):
        _, o, u = step(c_t, mem)
        return o, count + 1, u


def instance():
    return Inside()


FIRST = "called step by step with a state, at first"
WAYS = [
    (Sequence, "called on the whole sequence, mem_seq is u_pre", {"o", "dc", "u_pre"}),
    (WithInfo, "called on the whole sequence, mem_seq is u_pre", {"o", "dc", "u_pre"}),
    (
        Batches,
        "called on the whole sequence, with a batch axis, mem_seq is u_pre",
        {"o", "dc", "u_pre"},
    ),
    (BatchedSteps, f"{FIRST} zeros, with a batch axis, the state is u", {"o", "dc", "u"}),
    (Inside, "called step by step, v is u", {"o", "dc", "u"}),
    (instance, "called step by step, v is u", {"o", "dc", "u"}),
    (Resets, "called step by step, reset() before each run, v is u", {"o", "dc", "u"}),
    (Holder, "called step by step, reset() before each run, v is u", {"o", "dc", "u"}),
    (FromZeros, f"{FIRST} zeros, the state is u_pre", {"o", "dc", "u_pre"}),
    (FromNone, f"{FIRST} None, the state is u", {"o", "dc", "u"}),
    (
        FromMethod,
        "called step by step with the state of init_state(), state 2 is u",
        {"o", "dc", "u"},
    ),
]


@pytest.mark.parametrize(("make", "how", "shown"), WAYS, ids=[make.__name__ for make, *_ in WAYS])
def test_a_right_module_passes_however_it_is_called(make, how, shown):
    report = refsnn.conform(make, [TANH, FRESH])
    assert report.adapter == f"{make.__name__} ({how})"
    kept = make in (Inside, instance)  # FRESH runs a module twice
    assert [r.status for r in report.results] == ["passed", "failed" if kept else "passed"]
    assert set(report.results[0].tensors) == shown
    assert report.precision is None
    assert report.results[0].precision == "float32"


@pytest.mark.parametrize("make", [Sequence, Resets, FromNone])
def test_an_instance_passes_too(make):
    report = refsnn.conform(make(), [TANH, FRESH])
    assert report.passed, str(report)


def test_other_levels_are_not_declared():
    assert {r.level for r in refsnn.conform(Sequence).results} == {"neuron"}


def test_wrong_spikes_potentials_and_gradients_are_seen():
    class Detached(Inside):
        tau = TANH.conventions["tau"]

        def forward(self, c_t):
            u_pre = self.tau * self.v + c_t
            o = Spike.apply(u_pre - 1)
            self.v = u_pre * (1 - o.detach())
            return o

    class Like(Detached):
        tau = DETACHED.conventions["tau"]

    assert refsnn.conform(Like, [DETACHED]).passed
    (result,) = refsnn.conform(Detached, [TANH]).results
    assert result.first["tensor"] == "dc"

    class Leaks(Inside):
        def forward(self, c_t):
            o = super().forward(c_t)
            self.v = self.v - 1e-4  # too little to move a spike
            return o

    (result,) = refsnn.conform(Leaks, [TANH]).results
    assert result.first["tensor"] == "u"


def test_an_instance_that_keeps_its_state_is_seen():
    report = refsnn.conform(Inside(), [TANH, TANH])
    assert [r.status for r in report.results] == ["passed", "failed"]
    # another number of neurons than that of the state
    report = refsnn.conform(Inside(), [TANH, FRESH])
    assert "raised: RuntimeError" in report.results[1].message
    assert "test_module.py" in report.results[1].message


def test_the_module_itself_is_not_called_on_trial():
    module = Inside()
    refsnn.conform(module, [])
    assert module.v == 0


def test_a_new_module_is_made_for_each_case_and_not_for_each_run():
    made = []

    class Counted(Sequence):
        def __init__(self):
            super().__init__()
            self.runs = 0
            made.append(self)

        def forward(self, c):
            self.runs += 1
            return super().forward(c)

    assert FRESH.repeat == 2
    assert refsnn.conform(Counted, [FRESH, TANH]).passed
    assert [module.runs for module in made if module.runs] == [2, 1]


def test_the_dtype_is_that_of_its_parameters():
    class Learned(Sequence):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, c):
            return super().forward(self.weight * c)

    report = refsnn.conform(Learned, [TANH])
    assert report.passed
    assert report.results[0].precision == "float64"


class Forgets(Inside):
    def forward(self, c_t):
        self.v = 0.0
        return super().forward(c_t)


class Backwards(Sequence):
    def forward(self, c):
        return super().forward(c.flip(0))


class Sums(Sequence):
    def forward(self, c):
        return super().forward(c).sum(1)


class Raises(Sequence):
    def forward(self, c, *state):
        raise RuntimeError("not today")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Forgets, "called step by step: its spikes do not depend on earlier steps"),
        (Backwards, "called on the whole sequence: its spikes depend on later steps"),
        (Sums, r"called on the whole sequence: it returns shape \(4,\) for \(4, 256\)"),
        (Raises, "called on the whole sequence: not today; .*; called step by step: not today$"),
    ],
)
def test_a_module_that_cannot_be_called_is_refused(make, message):
    with pytest.raises(TypeError, match=f"give an object with run.*{message}"):
        refsnn.conform(make, [TANH])


def test_one_that_needs_arguments_is_refused():
    class Needs(Sequence):
        def __init__(self, tau, v_th=1.0):
            super().__init__()

    with pytest.raises(TypeError, match="Needs needs tau: give a function without arguments"):
        refsnn.conform(Needs, [TANH])


def test_spikes_without_a_gradient_are_told():
    class Cut(Sequence):
        def forward(self, c):
            return super().forward(c.detach())

    (result,) = refsnn.conform(Cut, [TANH]).results
    assert "its spikes have no gradient with respect to its input" in result.message


def test_a_part_named_reset_is_not_called():
    class Part(Sequence):
        def __init__(self):
            super().__init__()
            self.reset = torch.nn.Identity()

    report = refsnn.conform(Part, [TANH])
    assert report.passed, str(report)
    assert "reset" not in report.adapter


def test_an_error_is_told_with_the_users_line():
    class Late(Sequence):
        def forward(self, c):
            if c.requires_grad:
                c = c @ c  # not on trial
            return super().forward(c)

    for make in (Late, lambda: torch.nn.Sequential(Late())):
        (result,) = refsnn.conform(make, [TANH]).results
        assert "RuntimeError" in result.message
        assert "c = c @ c" in result.message


def test_a_module_with_run_is_an_adapter_like_any_other():
    class Adapter(torch.nn.Module):
        def run(self, case):
            raise refsnn.Unsupported("as I say")

    (result,) = refsnn.conform(Adapter(), [TANH]).results
    assert result.message == "as I say"


C = torch.tensor([[0.25, 0.5, 2.0, 3.0]])
O = torch.tensor([[0.0, 0.0, 1.0, 1.0]])  # noqa: E741


@pytest.mark.parametrize(
    ("v", "kind"),
    [
        ([0.25, 0.5, 2.0, 3.0], "u_pre"),
        ([0.125, 0.25, 1.0, 1.5], "u_pre"),  # scaled
        ([0.25, 0.5, 0.0, 0.0], "u"),
        ([0.25, 0.5, -0.5, -0.5], "u"),  # reset to another value
        ([0.25, 0.5, 0.4, 1.4], "u"),  # minus 1.6
        ([0.25, 0.5, 0.4, 0.1], None),
        ([0.5, 0.5, 0.5, 0.5], None),
        ([0.5, 0.25, 0.3, 3.0], None),
    ],
)
def test_potentials_are_told_apart_by_their_spikes(v, kind):
    assert kind_of(torch.tensor([v]), O, C) == kind


def test_without_spikes_or_without_silence_nothing_is_told():
    assert kind_of(C, torch.zeros_like(C), C) is None
    assert kind_of(C, torch.ones_like(C), C) is None


@pytest.mark.parametrize(
    ("made", "how"),
    [
        (
            "snntorch.Leaky(beta=0.5, spike_grad=snntorch.surrogate.sigmoid(2), "
            'reset_mechanism="zero", reset_delay=False)',
            "called step by step with the state of reset_mem(), the state is u",
        ),
        (
            "snntorch.Leaky(beta=0.5, spike_grad=snntorch.surrogate.sigmoid(2), init_hidden=True, "
            'reset_mechanism="zero", reset_delay=False)',
            "called step by step, reset_mem() before each run, mem is u",
        ),
        (
            "spikingjelly.activation_based.neuron.LIFNode(tau=2.0, decay_input=False, v_reset=0.0, "
            "surrogate_function=spikingjelly.activation_based.surrogate.Sigmoid(2.0))",
            "called step by step, reset() before each run, v is u",
        ),
        (
            "spikingjelly.activation_based.neuron.LIFNode(tau=2.0, decay_input=False, v_reset=0.0, "
            "surrogate_function=spikingjelly.activation_based.surrogate.Sigmoid(2.0), "
            'step_mode="m", store_v_seq=True)',
            "called on the whole sequence, reset() before each run, v_seq is u",
        ),
    ],
)
def test_neurons_of_libraries_pass_as_they_are(made, how):
    names = {}
    library = made.partition(".")[0]
    names[library] = pytest.importorskip(library)
    pytest.importorskip(made.partition("(")[0].rpartition(".")[0])
    report = refsnn.conform(eval(f"lambda: {made}", names), [TANH, FRESH])
    assert report.passed, str(report)
    assert report.adapter == f"<lambda> ({how})"


def test_norse_starts_from_none():
    norse = pytest.importorskip("norse.torch")
    report = refsnn.conform(lambda: norse.LIFBoxCell(dt=0.005), [TANH])
    assert report.adapter == f"<lambda> ({FIRST} None, v is u)"
    assert [r.ending for r in report.results] == ["done"]


@pytest.mark.processes
def test_the_command_takes_a_module_by_its_name(adapter, capsys):
    from refsnn.cli import main

    adapter("""
        import torch

        class Neuron(torch.nn.Module):
            def forward(self, c_t, u):
                u_pre = 0.5 * u + c_t
                o = (u_pre > 1).to(c_t) + 0 * u_pre
                return o, u_pre * (1 - o)

        made = Neuron()
        """)
    assert main(["conform", "mine:made", "--case", "neuron/tanh"]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"mine:made ({FIRST} zeros, the state is u), float32\n")
    assert "FAILED neuron/tanh: dc at step" in out


def test_torch_is_not_imported_for_others():
    code = """
    import sys, refsnn
    refsnn.conform(lambda case: {}, refsnn.cases(pattern="neuron/tie"))
    print("torch" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]


class Leaky(torch.nn.Module):
    """Declares its numbers itself, and has them."""

    conventions = "tau=0.75"

    def forward(self, c_t, u):
        u_pre = 0.75 * u + c_t
        o = Spike.apply(u_pre - 1)
        return o, u_pre * (1 - o)


class Undeclared(Leaky):
    conventions = None


def test_the_papers_numbers_are_asked_of_a_module_where_none_are_declared():
    """As it cannot be told those of each case; so one that is right passes every case."""
    report = refsnn.conform(FromZeros)
    assert report.passed, str(report)
    assert report.count("passed") >= 10
    told = (
        "judged by the paper's conventions: tau = 0.5; v_th = 1; surrogate k (1 - tanh²), k = 0.5"
    )
    assert str(refsnn.conform(Undeclared)).splitlines()[-1] == told


def test_what_is_declared_is_added_to_them():
    assert refsnn.conform(Undeclared, conventions="tau=0.75").passed
    assert refsnn.conform(Leaky).passed
    report = refsnn.conform(Leaky, conventions="tau=0.5")
    assert not report.passed
    assert report.conventions == USUAL
    assert refsnn.conform(Leaky, conventions="spikingjelly").conventions["surrogate_shape"] == 4


@pytest.mark.parametrize(
    ("own", "expected"), [(True, USUAL | {"tau": 0.25}), (False, {"tau": 0.25})]
)
def test_any_adapter_may_say_that_its_numbers_are_its_own(own, expected):
    class Adapter:
        levels = ("surrogate",)
        has_own_numbers = own

        def run(self, case):
            return {"h": case.outputs["h"]}

    assert refsnn.conform(Adapter, conventions="tau=0.25").conventions == expected
