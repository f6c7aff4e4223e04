"""The script as a reader starts it: in a process of its own, judged by status, output and files."""
import os
import re
import sys
from subprocess import DEVNULL, PIPE, Popen
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import SCRIPT, run_main
from matplotlib import get_cachedir, pyplot as plt

import lstm_sine

QUICK = "--epochs 1 --length 60"
NOT_INHERITED = ("PYTHON", "MPL", "MATPLOTLIB", "OMP_", "MKL_", "DISPLAY", "WAYLAND_DISPLAY")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def start(folder, *command, **changes):
    """Starts a process of its own; with agg, since elsewhere than on Linux a window would open."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(NOT_INHERITED)}
    env.update({"MPLBACKEND": "agg", "MPLCONFIGDIR": get_cachedir(),
                "PYTHONPATH": os.pathsep.join(sys.path), **changes})
    return Popen([sys.executable, *command], cwd=folder, env=env, encoding="utf-8",
                 stdin=DEVNULL, stdout=PIPE, stderr=PIPE)


IMPORT = """
import random, sys, warnings, numpy, torch
from matplotlib import font_manager, pyplot, rcParams
def state():
    return (torch.get_rng_state().tolist(), str(numpy.random.get_state()), random.getstate(),
            torch.get_num_threads(), dict(rcParams), torch.get_default_dtype(),
            sys.stdout.errors, warnings.filters[:], torch.backends.cudnn.allow_tf32)
before = state()
import lstm_sine
assert before == state()
lstm_sine.start()
"""


@pytest.fixture(scope="module", autouse=True)
def processes(tmp_path_factory):
    """Three processes in one folder, started at once, since they mostly wait for imports."""
    folder = tmp_path_factory.mktemp("processes")
    np.savetxt(folder / "水位.csv", np.sin(np.arange(60)))
    (folder / "quote.csv").write_text('1\n"2"3\n')
    options = "--data 水位.csv --output 图.svg --forecast 5 --memory --epochs 1".split()
    nowhere = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), os.devnull)
    with (start(folder, SCRIPT, *options, **nowhere, MPLCONFIGDIR="", PYTHONIOENCODING="ascii",
                MPLBACKEND="module://no_such_backend") as console,
          start(folder, "-c", IMPORT, "--data", "quote.csv") as refused,
          start(folder, SCRIPT, "--epochs", "1000", "--output", "closed.png") as closed):
        closed.stdout.close()
        yield {"folder": folder, "console": console, "refused": refused, "closed": closed}
        for process in (console, refused, closed):
            process.kill()


WRONG = {
    "--length 1": "--length does not take the number 1", "--lr nan": "--lr does not take .* nan",
    "--epochs 0": "--epochs does not take the number 0", "--forecast -1": "--forecast does not",
    "--hidden-size 9999999999": "--hidden-size does not", "--length 11": "11 points are too few",
    "--device gpu": "--device gpu does not work here", "--device meta:0x": "--device meta:0x does",
    "--output a.doc": "is no .png, ", f"--output {300 * 'x'}.png": "is no .png",
    "--output dir.png": "file that can be written", "--output dir.png/a.png": "can be written",
    "--output no/a.png": "can be written", "--data=": "cannot be read", "--lang x": "invalid",
    "--data constant.csv": "the first 80 % are constant", "--column level": "give it with --data",
    "--data level.csv --output level.png --column 3": "fits just one", "--schedule x": "invalid",
    "--data a_forecast.csv --output a.png": "would write over a_forecast.csv",
    "--data b.png --output dir.png/../b.png": "would write over b.png", "--split x": "invalid",
    "--data b.png --series sine": "not allowed", "--speed 9": r": --speed 9 \(--help lists the op"}


@pytest.mark.parametrize("options", WRONG, ids=lambda options: options[:40])
def test_impossible_options_are_refused_before_writing(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: path.is_dir() and path.name != "dir.png")
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "constant.csv").write_text("0.1\n" * 80 + "1\n2\n" * 10)
    for name in ("a_forecast.csv", "b.png", "level.csv"):
        (tmp_path / name).write_text("1,5\n2,6\n" * 50)
    before = names(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        lstm_sine.main([*options.split(), "--no-show"])
    output = capsys.readouterr()
    assert (stopped.value.code, output.out, output.err.count("\n")) == (2, "", 1)
    assert output.err.startswith("lstm_sine.py: error: ") and re.search(WRONG[options], output.err)
    assert names(tmp_path) == before


def test_help_lists_what_the_options_are_by_default(capsys):
    with pytest.raises(SystemExit, match="0"):
        lstm_sine.read_options(["--help"])
    assert "points of a generated series [1000]" in " ".join(capsys.readouterr().out.split())


def test_training_and_free_runs_show_on_a_terminal_how_long_they_will_take(monkeypatch, capsys):
    clock = iter([0.0, 1.0, 3.0, 6.0, 8.0] * 2)  # at the start, and after each of four steps
    monkeypatch.setattr(lstm_sine, "time", Mock(monotonic=clock.__next__))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown = " 50%, 3 s left   \r 75%, 2 s left   \r100%, 0 s left   \r"
    lstm_sine.free_run(lambda windows: windows[:, 0], np.zeros((1, 2)), 4)
    assert capsys.readouterr().err == shown
    model, batch = lstm_sine.LSTMModel(), (torch.zeros(1, 3, 1), torch.zeros(1, 1))
    optimizer = torch.optim.Adam(model.parameters())
    lstm_sine.train_model(model, [batch, batch], torch.nn.MSELoss(), optimizer, epochs=2)
    assert capsys.readouterr().err == shown


def test_an_old_figure_stays_where_saving_another_fails(tmp_path, undrawn, monkeypatch):
    def half(figure, path):
        path.write_text("new")
        if "memory" in path.name:
            raise OSError("half")

    (tmp_path / "figure.png").write_text("old")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(OSError, match="half"):
        run_main(tmp_path, f"{QUICK} --memory --forecast 2")
    assert names(tmp_path) == ["figure.png"] and (tmp_path / "figure.png").read_text() == "old"


def test_where_figures_can_be_shown_all_are_shown_at_once(tmp_path, undrawn, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(len(plt.get_fignums())))
    monkeypatch.chdir(tmp_path)
    lstm_sine.main(QUICK.split())
    assert shown == [] and plt.get_fignums() == []  # agg has no windows
    monkeypatch.setattr(plt, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    lstm_sine.main([*QUICK.split(), "--memory", "--output", "a.PDF"])
    run_main(tmp_path, QUICK)  # with --no-show
    assert shown == [2] and (tmp_path / "lstm_sine.png").is_file()
    plt.close("all")


@pytest.mark.parametrize("error, end, message", [
    (MemoryError("Unable to allocate"), SystemExit, "^lstm_sine.py: error: Unable to allocate"),
    (OSError("No space"), SystemExit, "^lstm_sine.py: error: No space"),
    (FloatingPointError("nan"), SystemExit, "^lstm_sine.py: error: nan$"),
    (RuntimeError("no memory: you\nto"), SystemExit, "^lstm_sine.py: error: no memory: you$"),
    (KeyboardInterrupt(), SystemExit, "^lstm_sine.py: error: interrupted$"),
    (RuntimeError("shapes do not fit"), RuntimeError, "shapes")])
def test_what_goes_wrong_ends_in_one_line_but_a_fault_is_shown(error, end, message, monkeypatch):
    monkeypatch.setattr(lstm_sine, "main", Mock(side_effect=error))
    with pytest.raises(end, match=message):
        lstm_sine.start()


def test_an_old_console_chinese_names_no_home_and_no_backend_are_no_obstacle(processes):
    folder, process = processes["folder"], processes["console"]
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0 and "Traceback" not in err
    assert r"data: \u6c34\u4f4d.csv, column 1" in out
    assert names(folder) == ["quote.csv", "图.svg", "图_forecast.csv", "图_memory.svg", "水位.csv"]
    assert (folder / "图.svg").read_text("utf-8").endswith("</svg>\n")
    assert (folder / "图_forecast.csv").read_text().startswith("step,forecast\n60,")


def test_an_import_changes_and_prints_nothing_and_a_refused_run_gets_one_line(processes):
    process = processes["refused"]
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("lstm_sine.py: error: --data 'quote.csv' cannot be read as UTF-8 text")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other pipes")
def test_a_closed_pipe_ends_a_run_quietly_and_leaves_nothing_behind(processes):
    process = processes["closed"]
    assert process.communicate(timeout=100)[1] == "" and process.returncode == 0
    assert not list(processes["folder"].glob("*closed*"))
