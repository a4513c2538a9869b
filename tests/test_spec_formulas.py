"""The formulas of the ledger: LaTeX, ASCII, docstring and code say the same.

LaTeX and ASCII are compared as text, and so are ASCII and docstring. The ASCII is also evaluated:
both sides of a formula on numbers that the code computed. A formula that drifts from the others,
or from the code, fails.
"""

import ast
import inspect
import re
from functools import cache
from itertools import product

import clause_values as values
import numpy as np
import pytest
from clause_values import POTENTIALS, SCOPES, SURROGATES
from matplotlib.mathtext import MathTextParser

from refsnn import spec
from refsnn.equations import shortcut, update
from refsnn.equations.batchnorm import batchnorm_backward
from refsnn.equations.lif import constant_gradients
from refsnn.equations.loss import cross_entropy_backward

WITH_FORMULAS = [c for c in spec.CLAUSES if c.latex]
FORMULAS = [(c, formula) for c in WITH_FORMULAS for formula in c.formulas]
DISPLAYED = [
    (c, spec.plain(line.strip("$")))
    for c in spec.CLAUSES
    for line in c.derivation.splitlines()
    if line.startswith("$$") and " = " in line
]


def name_of(value):
    return value.id if isinstance(value, spec.Clause) else value


# ---- LaTeX, ASCII and docstring as text


def test_latex_in_ascii():
    assert spec.plain(r"\frac{\partial L}{\partial b_{n-1}}") == "dL/db_{n-1}"
    assert spec.plain(r"u_\mathrm{pre}[t]\,\hat{x} - \sqrt{s^2 + \lambda}") == (
        "u_pre[t] x_hat - sqrt(s^2 + lambda)"
    )
    assert spec.plain(r"\delta[t]\ \mathrm{if}\ x^\top") == "delta[t] if x^T"


@pytest.mark.parametrize(
    "clause", [c for c in spec.CLAUSES if c.id.startswith("EQ")], ids=lambda c: c.id
)
def test_an_equations_latex_is_its_statement(clause):
    assert clause.is_formula, (clause.formulas, clause.statement)


def docstrings(tree):
    """The lines of all docstrings in a syntax tree."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    texts = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return [line.strip() for text in texts if text for line in text.splitlines()]


def states(line, formula):
    """Whether a line of a docstring holds the formula, and nothing longer."""
    return re.search(rf"(^|[ :]){re.escape(formula)}($|[.,;])", line)


def tree_of(clause):
    path, name = spec.file_and_name(clause.code)
    module = spec.resolve(path.removesuffix(".py").replace("/", "."))
    tree = ast.parse(inspect.getsource(module))
    if not name:
        return tree, tree
    (target,) = (node for node in tree.body if getattr(node, "name", "") == name)
    return tree, target


@pytest.mark.parametrize("clause", WITH_FORMULAS, ids=name_of)
def test_formulas_stand_in_docstrings_beside_the_code(clause):
    module, target = tree_of(clause)
    first = clause.formulas[0]
    assert any(states(line, first) for line in docstrings(target)), f"{first}: not in the docstring"
    for formula in clause.formulas:
        assert any(states(line, formula) for line in docstrings(module)), formula


def all_latex():
    for clause in spec.CLAUSES:
        yield from clause.latex.splitlines()
        yield from re.findall(r"\$+([^$]+)\$+", clause.derivation)
    yield from (symbol.latex for symbol in spec.SYMBOLS)


def test_all_latex_renders():
    parser = MathTextParser("path")
    formulas = list(all_latex())
    assert len(formulas) > 100
    for latex in formulas:
        parser.parse(f"${latex}$")
    with pytest.raises(ValueError, match="Unknown symbol"):
        parser.parse(r"$\nosuchcommand$")


# ---- ASCII formulas evaluated on what the code computes


def python_of(text):
    """Python for one side of a formula: a space is a product, a sum runs to the end."""
    total = re.search(r"sum_(?:\{(\w)<(\w)\}|(\w)) (.*)", text)
    if total:
        below, end, index, body = total.groups()
        before = re.sub(r"(?<=[\w)\]]) $", " * ", text[: total.start()])
        stop = end or {"t": "T + 1", "l": "n + 1"}[index]
        return python_of(before) + (
            f"sum({python_of(body)} for {below or index} in range(1, {stop}))"
        )
    text = text.replace("lambda", "lam").replace("^T", "").replace("^", "**")
    text = re.sub(r"\|([^|]+)\|", r"abs(\1)", text)
    text = re.sub(r"(\w+)\(i\)", r"\1_i", text)  # lam_i, a number beside lam
    text = re.sub(r"\bd(\w)_(\w)/d(\w)_(\w)", r"d\1_d\3[\2, \4]", text)  # db_l/dW_1
    text = re.sub(r"\bd(\w+)/d(?=\w)", r"d\1_d", text)  # dL/dc[t] -> dL_dc[t]
    text = re.sub(r"(\w+?)_(?:\{([^}]+)\}|([ln1])(?!\w))", r"\1[\2\3]", text)  # b_l -> b[l]
    parts = re.split(r"( if | else )", text)
    parts[::2] = [re.sub(r"(?<=[\w\])]) (?=[\w(])", " * ", part) for part in parts[::2]]
    return "".join(parts)


def check(formula, scope):
    """Evaluate both sides for every t and l that the formula leaves free, and compare them.

    What a label stands before is about the numbers that the scope has under "label:".
    """
    label = re.match(r"([\w ]+): ", formula)
    if label:
        formula = formula[label.end() :]
        scope = scope | scope[f"{label[1]}:"]
    formula, *where = re.split(r", (?=\w = )", formula)
    for assignment in where:
        name, value = assignment.split(" = ")
        scope = scope | {name: eval(python_of(value), dict(scope))}
    left, right = map(python_of, formula.split(" = "))
    first = 0 if "t + 1" in left or "t+1" in left else 1
    times, branches = range(first, first + scope.get("T", 1)), range(1, scope.get("n", 2))
    for t, branch in product(times, branches):
        names = {"t": t, "l": branch} | scope
        got, wanted = eval(left, dict(names)), eval(right, dict(names))
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14, err_msg=formula)


#: formulas without numbers in the code: factors written with dots, whole blocks as functions, a
#: derivative through the step's surrogate
WORDS_ALONE = {
    "dL/dW_1 = dL/db_n db_n/db_{n-1} ... db_1/dW_1",
    "d_1 = sum_l P_2(P_3(... P_l(H_l(dL/db_l))))",
    "b_l = f_l(b_{l-1})",
    "du_pre[t+1]/du_pre[t] = tau ((1 - o[t]) - u_pre[t] h[t])",
}


@cache
def scopes(name):
    return list(SCOPES[name]())


def check_all(formula, name):
    """Check a formula on all sets of numbers of this name."""
    for scope in scopes(name):
        check(formula, scope)


def evaluated(pairs):
    return [(c, formula) for c, formula in pairs if formula not in WORDS_ALONE]


@pytest.mark.parametrize(("clause", "formula"), evaluated(FORMULAS), ids=name_of)
def test_the_code_computes_the_formula(clause, formula):
    check_all(formula, clause.id)


@pytest.mark.parametrize(("clause", "formula"), evaluated(DISPLAYED), ids=name_of)
def test_the_code_computes_the_formulas_of_derivations(clause, formula):
    name = f"{clause.id} derivation"
    check_all(formula, name if name in SCOPES else clause.id)


def test_formulas_that_are_not_evaluated_are_in_the_ledger():
    assert {formula for _, formula in FORMULAS + DISPLAYED} >= WORDS_ALONE


@pytest.mark.parametrize(("clause", "formula"), evaluated(FORMULAS + DISPLAYED), ids=name_of)
def test_a_wrong_sign_is_noticed(clause, formula):
    """Each plus and minus of each formula, turned round, is no longer what the code computes."""
    name = f"{clause.id} derivation"
    name = name if name in SCOPES and (clause, formula) in DISPLAYED else clause.id
    for place in re.finditer(r" [+-] |(?<= )-(?=\w)", formula):
        sign = {" + ": " - ", " - ": " + ", "-": ""}[place[0]]
        wrong = formula[: place.start()] + sign + formula[place.end() :]
        with pytest.raises(AssertionError):
            check_all(wrong, name)


@pytest.mark.parametrize("label", SURROGATES)
def test_the_docstrings_of_slopes_and_primitives(label):
    for method in ("slope", "primitive"):
        text = inspect.getdoc(getattr(SURROGATES[label], method))
        formula = re.fullmatch(r"Return (.*)\.", text)[1].replace(" at ", ", ")
        for u_pre in POTENTIALS:
            check(f"{label}: {formula}", values.at_potential(u_pre))


@pytest.mark.parametrize(
    ("function", "formula", "scope"),
    [
        (batchnorm_backward, "dL/dbeta = sum(dL/dy)", values.norm),
        (batchnorm_backward, "dL/dgamma = scale sum(dL/dy x_hat)", values.norm),
        (batchnorm_backward, "dL/dx = s (g - mean(g) - x_hat mean(g x_hat))", values.norm),
        (constant_gradients, "dL/dtau = sum_t delta[t] u[t-1]", values.neuron),
        (shortcut.combine_backward, "dL/db_n = dL/do_final", values.evolution_derivation),
        (shortcut.combine_backward, "dL/db_l = side dL/do_final", values.evolution_derivation),
        (
            shortcut.objective_forward,
            "losses: L = CE(b_n, y) + side sum_{l<n} CE(b_l, y)",
            values.losses,
        ),
        (shortcut.shortcut_backward, "d_n = H_n(dL/db_n)", values.sweep),
        (shortcut.shortcut_backward, "d_l = P_{l+1}(d_{l+1}) + H_l(dL/db_l)", values.sweep),
        (cross_entropy_backward, "dL/dlogits = (p - y)/N", values.cross_entropy),
    ],
)
def test_other_formulas_of_docstrings(function, formula, scope):
    lines = [line.strip() for line in inspect.getdoc(function).splitlines()]
    assert any(states(line, formula) for line in lines)
    check(formula, scope())


@pytest.mark.parametrize(
    ("rule", "names"),
    [(update.sgd_update, ["w", "v"]), (update.adamw_update, ["w", "mean", "square"])],
)
def test_the_docstrings_of_the_optimisers(rule, names):
    rng = np.random.default_rng(8)
    scope = {name: rng.uniform(0.5, 2, 3) for name in ("w", "g", "v", "mean", "square")}
    scope |= {"i": 3, "lr": 0.1, "momentum": 0.8, "decay": 0.3}
    wanted = rule(*(scope[name] for name in inspect.signature(rule).parameters))
    scope |= {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "sqrt": np.sqrt}
    rules = [line.split(" <- ") for line in inspect.getdoc(rule).splitlines() if " <- " in line]
    assert len(rules) == len(names)
    for name, value in rules:
        scope[name.strip()] = eval(python_of(value), dict(scope))
    for name, value in zip(names, wanted, strict=True):
        np.testing.assert_allclose(scope[name], value, rtol=1e-12)


def test_formulas_are_read_as_they_are_written():
    assert python_of("k (1 - tanh(x)^2)") == "k * (1 - tanh(x)**2)"
    assert python_of("b_n + side sum_{l<n} b_l") == "b[n] + side * sum(b[l] for l in range(1, n))"
    assert python_of("dL/db_l db_l/dW_1") == "dL_db[l] * db_dW[l, 1]"
    assert python_of("1/a if |x| < a/2 else 0") == "1/a if abs(x) < a/2 else 0"
    assert python_of("-sum_t delta[t+1] tau") == ("-sum(delta[t+1] * tau for t in range(1, T + 1))")
