"""The script as a reader starts it: in a process of its own, judged by status, output and files."""
import os
import re
import sys
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import SCRIPT, run_main, start
from matplotlib import pyplot as plt

import lstm_sine

QUICK = "--epochs 1 --length 60"


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".csv")


def finished(folder, *options, **changes):
    process = start(folder, *options, **changes)
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def test_an_old_console_and_chinese_names_are_no_obstacle(tmp_path):
    np.savetxt(tmp_path / "水位.csv", np.sin(np.arange(60)))
    options = [*QUICK.split(), "--data", "水位.csv", "--output", "图.svg", "--forecast", "5"]
    status, out, err = finished(tmp_path, *options, MPLBACKEND=None, PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "") and r"data: \u6c34\u4f4d.csv, column 1" in out
    assert names(tmp_path) == ["图.svg"]
    assert (tmp_path / "图.svg").read_text("utf-8").endswith("</svg>\n")
    assert (tmp_path / "图_forecast.csv").read_text().startswith("step,forecast\n60,")


def test_without_a_home_and_with_a_backend_that_is_not_installed_figures_are_written(tmp_path):
    changes = {"HOME": os.devnull, "XDG_CONFIG_HOME": None, "XDG_CACHE_HOME": None}
    status, _, err = finished(tmp_path, *QUICK.split(), "--memory", **changes,
                              MPLBACKEND="module://no_such_backend")
    assert status == 0 and "Traceback" not in err
    assert names(tmp_path) == ["lstm_sine.png", "lstm_sine_memory.png"]
    assert (tmp_path / "lstm_sine.png").read_bytes()[-8:-4] == b"IEND"


IMPORT = """
import random, signal, sys, warnings, matplotlib, numpy, torch
def state():
    return (torch.get_rng_state().tolist(), str(numpy.random.get_state()), random.getstate(),
            torch.get_num_threads(), dict(matplotlib.rcParams), torch.get_default_dtype(),
            sys.stdout.encoding, sys.stdout.errors, warnings.filters[:],
            torch.backends.cudnn.allow_tf32, signal.getsignal(signal.SIGTERM),
            signal.getsignal(signal.SIGINT))
before = state()
import lstm_sine
assert before == state()
lstm_sine.start()
"""


def test_an_import_changes_and_prints_nothing_and_a_refused_run_gets_one_line(tmp_path):
    (tmp_path / "gap.csv").write_text("1\n2\n\n4")
    status, out, err = finished(tmp_path, "--data", "gap.csv", code=IMPORT,
                                PYTHONPATH=str(SCRIPT.parent))
    assert (status, out, err.count("\n"), names(tmp_path)) == (2, "", 1, [])
    assert err.startswith("lstm_sine.py: error: --data 'gap.csv' cannot be read as UTF-8 text")


WRONG = {
    "--length 1": "--length does not take the number 1", "--lr nan": "--lr does not take .* nan",
    "--epochs 0": "--epochs does not take the number 0", "--seed -1": "--seed does not take",
    "--forecast -1": "--forecast does not take", "--hidden-size 9999999999": "--hidden-size does",
    "--batch-size 1.5": "invalid int value: '1.5'", "--split none": "invalid choice: 'none'",
    "--device gpu": "--device gpu does not work here", "--device meta:0x": "--device meta:0x does",
    "--foo": "unrecognized arguments: --foo", "--output a.doc": "is no .png, ",
    "--output folder.png": "file that can be written", "--output no/folder.png": "can be written",
    f"--output {300 * 'x'}.png": "is no .png", f"--data {300 * 'x'}": "cannot be read",
    "--series sine --data level.csv": "not allowed with argument", "--data=": "cannot be read",
    "--data constant.csv": "the first 80 % are constant", "--column level": "give it with --data",
    "--data level.csv --output level.png --column 3": "fits no other",
    "--data a_forecast.csv --output a.png": "would write over a_forecast.csv",
    "--data b.png --output ./b.png": "would write over b.png", "--length 11": "11 points are too"}


@pytest.mark.parametrize("options", WRONG, ids=lambda options: options[:40])
def test_what_cannot_be_is_refused_before_a_file_is_written(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
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


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        lstm_sine.main([*QUICK.split(), "--no-show"])


def test_the_defaults_are_the_articles_and_help_lists_them(capsys):
    defaults = dict(length=1000, freq=0.1, seq_length=10, hidden_size=50, num_layers=1, epochs=50,
                    batch_size=32, lr=0.001, seed=42, split="random", subtract_last=False,
                    schedule="constant")
    args = vars(lstm_sine.read_options([]))
    assert {name: args[name] for name in defaults} == defaults
    own = lstm_sine.read_options(["--data", "a.csv"])
    assert (own.split, own.subtract_last) == ("time", True)
    with pytest.raises(SystemExit, match="0"):
        lstm_sine.read_options(["--help"])
    text = capsys.readouterr().out
    for value in ("[1000]", "[0.1]", "[0.001]", "[42]", "[sine]", "[constant]", "[auto]", "[zh]"):
        assert value in text


@pytest.mark.skipif(os.name == "nt", reason="Windows has other pipes")
def test_a_closed_pipe_ends_a_run_quietly_and_leaves_nothing_behind(tmp_path):
    pipe = start(tmp_path, "--epochs", "1000")
    pipe.stdout.readline()
    pipe.stdout.close()
    assert pipe.stderr.read() == "" and pipe.wait(timeout=60) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_on_a_terminal_a_long_epoch_shows_how_long_it_will_take(tmp_path):
    import pty
    ours, theirs = pty.openpty()
    process = start(tmp_path, "--length", "20000", "--epochs", "3", stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"s left" not in shown:
        shown += os.read(ours, 100)
    process.kill()
    assert re.search(rb" \d+%, \d+ s left", shown)
    assert "Epoch" not in process.communicate(timeout=30)[0]


def test_a_free_run_shows_progress_too(monkeypatch, capsys):
    monkeypatch.setattr(lstm_sine.time, "monotonic", iter([0.0, 1.0, 3.0, 6.0, 8.0]).__next__)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    lstm_sine.free_run(lambda windows: windows[:, 0], np.zeros((1, 2)), 4)
    assert capsys.readouterr().err == " 50%, 3 s left   \r 75%, 2 s left   \r100%, 0 s left   \r"


@pytest.mark.parametrize("error, message", [
    (OSError, "half"), (KeyboardInterrupt, "half"), (FloatingPointError, "the loss of epoch 1")])
def test_an_old_figure_stays_where_a_run_or_saving_fails(error, message, tmp_path, monkeypatch):
    def half(figure, path):
        path.write_text("half")
        raise error("half")

    (tmp_path / "figure.png").write_text("old")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    if error is FloatingPointError:
        monkeypatch.setattr(lstm_sine.nn, "MSELoss", lambda: lambda a, b: (a - b).mean() / 0)
    with pytest.raises(error, match=message):
        run_main(tmp_path, QUICK)
    assert names(tmp_path) == ["figure.png"] and (tmp_path / "figure.png").read_text() == "old"


def test_where_figures_can_be_shown_all_are_shown_at_once(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(len(plt.get_fignums())))
    monkeypatch.chdir(tmp_path)
    lstm_sine.main(QUICK.split())
    assert shown == [] and plt.get_fignums() == []  # agg has no windows
    monkeypatch.setattr(plt, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    lstm_sine.main([*QUICK.split(), "--memory"])
    lstm_sine.main([*QUICK.split(), "--no-show"])
    assert shown == [2]
    plt.close("all")


@pytest.mark.parametrize("error, end, message", [
    (MemoryError("Unable to allocate"), SystemExit, "^lstm_sine.py: error: Unable to allocate"),
    (OSError("No space"), SystemExit, "^lstm_sine.py: error: No space"),
    (RuntimeError("no memory: you\nto"), SystemExit, "^lstm_sine.py: error: no memory: you$"),
    (KeyboardInterrupt(), SystemExit, "^lstm_sine.py: error: interrupted$"),
    (RuntimeError("shapes do not fit"), RuntimeError, "shapes")])
def test_what_goes_wrong_ends_in_one_line_but_a_fault_is_shown(error, end, message, monkeypatch):
    monkeypatch.setattr(lstm_sine, "main", Mock(side_effect=error))
    with pytest.raises(end, match=message):
        lstm_sine.start()


def test_auto_takes_cuda_only_where_it_works_and_the_lstm_keeps_float32(tmp_path, monkeypatch):
    torch.backends.cudnn.allow_tf32 = True
    run_main(tmp_path, QUICK)
    assert not torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert lstm_sine.read_options(["--device", "auto"]).device.type == "cpu"
