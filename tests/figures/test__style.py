"""The command line of a figure, and the pictures that it writes."""

import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

FIGURES = Path(__file__).parents[2] / "figures"
TINY = {
    "workflow": "--arch 1-1:2-2",
    "surrogates": "",
    "lambda_schedule": "--epochs 2 --batches 3",
    "spike_raster": "--arch 1:2 --steps 2 --batch-size 4",
    "gradient_by_depth": "--depths 8 --seeds 1 --batch-size 4 --steps 2",
    "gradient_distribution": "--archs 1-1:2-2 --seeds 1 --batch-size 4 --steps 2",
    "gradient_regimes": "--shallow 8 --deep 14 --cells 2 --seeds 1 --batch-size 4 --steps 2",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_every_figure_runs_by_itself_and_is_the_same_again_from_its_record(
    name, script, tmp_path, monkeypatch
):
    def run(*options):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, options)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(FIGURES / f"{name}.py"), run_name="__main__")
        assert stop.value.code == 0

    run("--out", tmp_path / "first", "--record", tmp_path / "data.json", *TINY[name].split())
    run("--out", tmp_path / "again", "--data", tmp_path / "data.json")
    for kind in ("png", "svg"):
        first, again = (tmp_path / d / f"{name}.{kind}" for d in ("first", "again"))
        assert first.read_bytes() == again.read_bytes()
    with Image.open(tmp_path / "first" / f"{name}.png") as image:
        image.load()
        assert image.size[0] >= 1400
        assert len(image.getcolors()) > 1
    assert ElementTree.parse(tmp_path / "first" / f"{name}.svg").getroot().tag.endswith("svg")


@pytest.mark.processes
def test_a_script_needs_nothing_but_the_package(tmp_path):
    command = [sys.executable, str(FIGURES / "lambda_schedule.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / f"lambda_schedule.{k}") for k in ("png", "svg")]


@pytest.mark.processes
def test_an_unknown_backend_in_the_environment_changes_nothing(tmp_path):
    command = [sys.executable, str(FIGURES / "lambda_schedule.py"), "--out", str(tmp_path)]
    environment = os.environ | {"MPLBACKEND": "nonsense"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def main(script, tmp_path):
    """The command line around a figure of one line."""
    style = script("_style")

    def compute(name: str = "a", numbers: tuple[float, ...] = (1.0, 2.0), count: int = 3):
        if count < 0:
            raise ValueError("count: got a negative number,\nwant another")
        return {"name": name, "numbers": list(numbers), "count": count}

    @style.printed
    def draw(data):
        drawn.append(data)
        figure = Figure()
        figure.add_subplot().plot(data["numbers"])
        return figure

    drawn = []

    def run(*options):
        code = style.main("there/lines.py", "about", compute, draw, [*map(str, options)])
        return code, drawn

    return run


def test_options_are_the_parameters_with_their_types(main, tmp_path):
    code, (data,) = main("--out", tmp_path, "--numbers", "3", "4.5", "--count", "7")
    assert code == 0
    assert data == {"figure": "lines", "name": "a", "numbers": [3.0, 4.5], "count": 7}


def test_pictures_go_into_a_folder_that_is_made(main, tmp_path, capsys):
    main("--out", tmp_path / "new" / "folder")
    assert {p.name for p in (tmp_path / "new" / "folder").iterdir()} == {"lines.png", "lines.svg"}


def test_a_value_of_another_type_is_refused(main, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main("--out", tmp_path, "--count", "many")
    assert stop.value.code == 2


def test_an_error_is_one_line(main, tmp_path, capsys):
    assert main("--out", tmp_path, "--count", "-1")[0] == 2
    said = capsys.readouterr().err
    assert said == "lines.py: error: count: got a negative number, want another\n"


def test_recorded_data_is_drawn_without_computing(main, tmp_path):
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"figure": "lines", "numbers": [5, 6]}))
    code, (data,) = main("--out", tmp_path, "--data", file)
    assert code == 0
    assert data["numbers"] == [5, 6]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("{", "not valid JSON"),
        ("[]", "got a list, want an object"),
        ("{}", "is of figure None, want 'lines'"),
        ('{"figure": "lines", "numbers": {"a": []}}', "not what --record wrote"),
        ("[" * 10_000, "nested more than 64 deep"),
        ('{"figure": "curves"}', "is of figure 'curves', want 'lines'"),
        ('{"figure": "lines"}', "'numbers' is missing"),
    ],
)
def test_a_file_that_is_not_a_record_is_named(main, tmp_path, capsys, text, said):
    file = tmp_path / "data.json"
    if text is not None:
        file.write_text(text)
    assert main("--out", tmp_path, "--data", file)[0] == 2
    message = capsys.readouterr().err
    assert said in message
    assert str(file) in message
    assert message.count("\n") == 1


def test_numbers_that_can_not_be_drawn_are_named(script, tmp_path):
    (tmp_path / "data.json").write_text('{"figure": "roots", "number": -1}')
    with pytest.raises(ValueError, match=r"data\.json: not what --record wrote \(invalid value"):
        script("_style").draw_recorded(
            tmp_path / "data.json", "roots", lambda data: np.sqrt(data["number"])
        )


def test_a_pipe_is_no_record(main, tmp_path, capsys):
    os.mkfifo(tmp_path / "data.json")
    assert main("--out", tmp_path, "--data", tmp_path / "data.json")[0] == 2
    assert "data.json: is no regular file" in capsys.readouterr().err


def test_options_that_data_would_leave_without_effect_are_refused(main, tmp_path, capsys):
    for other in (("--count", "1"), ("--record", "file")):
        with pytest.raises(SystemExit) as stop:
            main("--data", tmp_path / "data.json", *other)
        assert stop.value.code == 2
        assert "--data" in capsys.readouterr().err


def test_the_settings_of_print_hold_only_in_figures(script):
    style = script("_style")
    before = dict(matplotlib.rcParams)

    @style.printed
    def size():
        return matplotlib.rcParams["font.size"]

    assert [size(), size()] == [8, 8]
    assert dict(matplotlib.rcParams) == before


def test_saved_pictures_depend_on_nothing_but_the_figure(script, tmp_path):
    style = script("_style")

    def saved():
        figure = Figure(figsize=(2, 1))
        figure.add_subplot().plot([1, 2], label="line")
        return [path.read_bytes() for path in style.save(figure, tmp_path, "lines")]

    png, svg = saved()
    assert [png, svg] == saved()
    assert b"date" not in svg.lower()
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (400, 200)
        assert image.info.keys() <= {"transparency"}


def test_methods_differ_without_colour(script):
    lines = script("_style").METHOD_LINES.values()
    for name in ("color", "linestyle", "marker"):
        assert len({line[name] for line in lines}) == 3
