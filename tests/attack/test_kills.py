"""The kill matrix: whatever step of its input and output a command is killed at, the same command
goes on to the same bytes, and leaves nothing else.

A choice of steps by default; `pytest -m attack tests/attack` takes all, before each and in the
middle of each that writes (half an hour). What was written before a kill stays, unlike before a
loss of power: for that, `unflushed` looks at what was flushed before it got its name.
"""

import random
import sys

import pytest
from killable import Ended, Killer
from scenarios import SCENARIOS, fresh, made

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and subreapers"),
]
#: how many steps a scenario is killed at by default: one with processes of its own is slow
CHOSEN = dict.fromkeys(SCENARIOS, 2) | {"training": 3, "ablation": 1}
SEED = 0


@pytest.fixture(scope="module")
def killer(tmp_path_factory):
    with Killer(tmp_path_factory.mktemp("site")) as found:
        yield found


class Trial:
    """A scenario, its undisturbed run, and what that made."""

    def __init__(self, killer, name, folder, plain=False):
        self.killer, self.scenario, self.folder = killer, SCENARIOS[name], folder
        self.plain = plain
        self.template, self.work = folder / "template", folder / "work"
        (self.work / "tmp").mkdir(parents=True)
        if self.scenario.before:
            self.prepare_before()
        else:
            self.scenario.prepare(self.work)
        self.work.rename(self.template)
        fresh(self.work, self.template)
        self.whole = self.run(self.scenario.command)
        assert self.whole.code == 0, self.whole.errors
        self.expected = dict(made(self.work))
        assert not [name for name in self.expected if "/." in f"/{name}"]

    def prepare_before(self):
        if self.scenario.command[0] == "frames":
            SCENARIOS["cache"].prepare(self.work)
        assert self.run(self.scenario.before).code == 0
        self.scenario.prepare(self.work)

    def run(self, command, **how) -> Ended:
        return self.killer.run(command, self.work, self.folder / "log", plain=self.plain, **how)

    def moments(self):
        """Number of the step, and whether it is in the middle."""
        for number, (event, *_) in enumerate(self.whole.steps, 1):
            yield number, False
            if event == "write":
                yield number, True

    def problem(self, number, half) -> str:
        """Return what is wrong after a kill at that moment; "" where nothing is."""
        fresh(self.work, self.template)
        first = self.run(self.scenario.command, at=number, half=half)
        again = self.scenario.again
        second = self.run(again(self.work) if again else self.scenario.command)
        if first.code == 0 and number > len(first.steps):
            return ""  # of two processes that make a folder, one or both may have to
        if first.code != -9:
            return f"step {number}: not killed, exit code {first.code}: {first.errors[-300:]}"
        at = f"{'in' if half else 'before'} step {number} ({' '.join(first.steps[-1])})"
        for ended in (first, second):
            if "Traceback" in ended.errors:
                return f"{at}: {ended.errors[-500:]}"
        if second.code != 0:
            return f"{at}: then exit code {second.code}: {second.errors[-300:]}"
        return self.difference(at)

    def difference(self, at):
        found = dict(made(self.work))
        surplus, missing = found.keys() - self.expected.keys(), self.expected.keys() - found.keys()
        if surplus or missing:
            return f"{at}: leaves {sorted(surplus)}, lacks {sorted(missing)}"
        others = [name for name, content in self.expected.items() if found[name] != content]
        return f"{at}: other content in {others}" if others else ""

    def problems(self, moments):
        return list(filter(None, (self.problem(*moment) for moment in moments)))


@pytest.fixture
def trial(killer, tmp_path):
    return lambda name, **how: Trial(killer, name, tmp_path, **how)


def unflushed(steps):
    """Files that were renamed, by themselves or in a folder, with writes that were not flushed."""
    dirty, found = set(), []
    for event, path, *others in steps:
        if event in ("open", "write"):
            dirty.add(path)
        elif event in ("fsync", "os.remove"):
            dirty.discard(path)
        elif event == "os.rename":
            moved = {name for name in dirty if f"{name}/".startswith(f"{path}/")}
            found += sorted(moved)
            dirty = dirty - moved | {others[0] + name[len(path) :] for name in moved}
    return found


def test_unflushed_files_are_noticed():
    write, flush, rename = ["write", "a/b"], ["fsync", "a/b"], ["os.rename", "a", "c"]
    assert unflushed([write, flush, rename]) == []
    assert unflushed([["open", "x"], flush, write, rename]) == ["a/b"]
    assert unflushed([["write", "ab"], rename, ["fsync", "c"]]) == []
    twice = [["open", "t"], ["os.rename", "t", "u"], ["os.rename", "u", "v"]]
    assert unflushed(twice) == ["t", "u"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_some_steps(trial, name):
    it = trial(name)
    assert not unflushed(it.whole.steps)
    moments = list(it.moments())
    chosen = random.Random(f"{SEED}/{name}").sample(moments, min(CHOSEN[name], len(moments)))
    problems = it.problems(chosen)
    assert not problems, "\n".join(problems)


@pytest.mark.attack
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_every_step(trial, name):
    it = trial(name)
    problems = it.problems(it.moments())
    assert not problems, "\n".join(problems)


def test_a_write_in_place_does_not_survive(trial):
    """The matrix finds the damage where files are written in place."""
    it = trial("training", plain=True)
    assert ["write", "run/checkpoint.npz"] in it.whole.steps
    last = max(
        n
        for n, (event, path) in enumerate(it.whole.steps, 1)
        if (event, path) == ("write", "run/checkpoint.npz")
    )
    assert it.problem(last, True)
