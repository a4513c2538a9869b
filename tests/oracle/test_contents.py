"""Arrays that cases of each level need, without which a file of vectors is refused."""

import hashlib
import json

import numpy as np
import pytest

from refsnn.files.arrays import read_whole, write_arrays
from refsnn.oracle import vectors
from refsnn.oracle.catalogue import catalogue
from refsnn.oracle.contents import LEADING, SETTINGS, require_inputs
from refsnn.oracle.conventions import LEVELS


def test_every_case_has_just_what_its_level_needs(cases):
    for case in cases.values():
        require_inputs(case.level, case.inputs, case.settings)


@pytest.fixture(params=LEVELS)
def case(request, cases):
    return next(case for case in cases.values() if case.level == request.param)


def test_each_input_and_setting_is_missed(case):
    for name in case.inputs:
        fewer = {k: v for k, v in case.inputs.items() if k != name}
        with pytest.raises(ValueError, match=rf"^inputs: {name}: got none, want an array of"):
            require_inputs(case.level, fewer, case.settings)
    for name in case.settings:
        if name in SETTINGS[case.level]:
            fewer = {k: v for k, v in case.settings.items() if k != name}
            with pytest.raises(ValueError, match=rf"^settings: {name} is missing"):
                require_inputs(case.level, case.inputs, fewer)


def test_each_input_of_another_shape_is_refused(case):
    for name, value in case.inputs.items():
        longer = case.inputs | {name: np.concatenate([value, value])}
        if name in LEADING[case.level]:
            if case.level == "surrogate" or len(case.inputs) == 1:
                continue
            with pytest.raises(ValueError, match=r"^inputs: .*, want an array of shape"):
                require_inputs(case.level, longer, case.settings)
        else:
            with pytest.raises(ValueError, match=rf"^inputs: {name}: got .*, want an array of sh"):
                require_inputs(case.level, longer, case.settings)


def test_a_surplus_input_is_refused(case):
    with pytest.raises(ValueError, match=f"more: is not an input of level {case.level}"):
        require_inputs(case.level, case.inputs | {"more": np.ones(1)}, case.settings)


def test_images_smaller_than_the_kernel_are_refused(cases):
    case = cases["layer/small-input"]
    small = case.inputs | {"x": case.inputs["x"][..., :1, :1]}
    with pytest.raises(ValueError, match="inputs: x: got 1 pixels, want at least"):
        require_inputs("layer", small, case.settings | {"padding": 0})


def test_a_file_of_vectors_without_an_input_is_refused(cases, tmp_path):
    manifest = vectors.write([cases["layer/small-input"]], tmp_path)
    (entry,) = manifest["cases"]
    path = tmp_path / entry["file"]
    arrays = read_whole(path)
    del arrays["in.bn.weight"]
    write_arrays(path, arrays)
    entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    entry["inputs"] = [one for one in entry["inputs"] if one["name"] != "bn.weight"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest\.json: layer/small-input: inputs: bn\.weight"):
        catalogue(tmp_path)["layer/small-input"]()
