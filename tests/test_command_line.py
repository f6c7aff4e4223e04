"""The script as a reader starts it: in a process of its own, judged by status, output and files."""
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import SCRIPT, run_main, start
from matplotlib import pyplot as plt

import lstm_sine

QUICK = "--epochs 1 --length 60"


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """Quick runs, two at a time: each one's folder and what it left behind, by name."""
    runs = {
        "plain": ([*QUICK.split(), "--data", "水位.csv", "--output", "图.svg", "--forecast", "5"],
                  {"MPLBACKEND": None, "PYTHONIOENCODING": "ascii"}),
        "homeless": ([*QUICK.split(), "--memory"], {
            "HOME": os.devnull, "XDG_CONFIG_HOME": None, "XDG_CACHE_HOME": None,
            "MPLBACKEND": "module://no_such_backend"}),
        "refused": (["--data", "gap.csv"], {}),
        "import": ([], {"code": IMPORT, "PYTHONPATH": str(SCRIPT.parent)})}
    done = {}
    for pair in (("plain", "homeless"), ("refused", "import")):
        started = {}
        for name in pair:
            folder = tmp_path_factory.mktemp(name)
            np.savetxt(folder / "水位.csv", np.sin(np.arange(60)))
            (folder / "gap.csv").write_text("1\n2\n\n4")
            options, changes = runs[name]
            started[name] = folder, start(folder, *options, **changes)
        for name, (folder, process) in started.items():
            out, err = process.communicate(timeout=100)
            done[name] = folder, process.returncode, out, err
    return done


IMPORT = """
import random, signal, sys, warnings
import matplotlib, numpy, torch
def state():
    return (torch.get_rng_state().tolist(), str(numpy.random.get_state()), random.getstate(),
            torch.get_num_threads(), dict(matplotlib.rcParams), torch.get_default_dtype(),
            sys.stdout.encoding, sys.stdout.errors, warnings.filters[:],
            torch.backends.cudnn.allow_tf32, signal.getsignal(signal.SIGTERM))
before = state()
import lstm_sine
assert before == state()
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".csv")


def test_an_old_console_and_chinese_names_are_no_obstacle(processes):
    folder, status, out, err = processes["plain"]
    assert (status, err) == (0, "") and r"data: \u6c34\u4f4d.csv, column 1" in out
    assert names(folder) == ["图.svg"] and (folder / "图.svg").read_text("utf-8").endswith("</svg>\n")
    assert (folder / "图_forecast.csv").read_text().startswith("step,forecast\n60,")


def test_without_a_home_and_with_a_backend_that_is_not_installed_the_figures_are_written(processes):
    folder, status, _, err = processes["homeless"]
    assert status == 0 and "Traceback" not in err
    assert names(folder) == ["lstm_sine.png", "lstm_sine_memory.png"]
    assert (folder / "lstm_sine.png").read_bytes()[-8:-4] == b"IEND"


def test_a_refused_run_gets_one_line_and_status_2(processes):
    folder, status, out, err = processes["refused"]
    assert (status, out, err.count("\n"), names(folder)) == (2, "", 1, [])
    assert err.startswith("lstm_sine.py: error: --data 'gap.csv' cannot be read as UTF-8 text")


def test_importing_the_module_changes_and_prints_nothing(processes):
    assert processes["import"][1:] == (0, "", "")


WRONG = {
    "--length 1": "--length does not take the number 1", "--length ten": "invalid int value: 'ten'",
    "--epochs 0": "--epochs does not take the number 0", "--lr nan": "--lr does not take .* nan",
    "--seq-length -3": "--seq-length does not take", "--seed -1": "--seed does not take",
    "--forecast -1": "--forecast does not take", "--hidden-size 9999999999": "--hidden-size does",
    "--batch-size 1.5": "invalid int value: '1.5'", "--freq 0": "--freq does not take",
    "--device gpu": "--device gpu does not work here: ", "--device meta:0x": "--device meta:0x does",
    "--split none": "invalid choice: 'none'", "--foo": "unrecognized arguments: --foo",
    "--series sine --data level.csv": "not allowed with argument", "--output a.doc": "is no .png, ",
    "--output folder.png": "file that can be written", "--output no/folder.png": "can be written",
    f"--output {300 * 'x'}.png": "is no .png", f"--data {300 * 'x'}": "cannot be read",
    "--length 11": "11 points are too few", "--data .": "cannot be read", "--data=": "cannot be read",
    "--data constant.csv": "the first 80 % are constant", "--column level": "give it with --data",
    "--data level.csv --output level.png --column 3": "fits no other",
    "--data a_forecast.csv --output a.png": "would write over a_forecast.csv",
    "--data b.png --output ./b.png": "would write over b.png"}


@pytest.mark.parametrize("options", WRONG, ids=lambda options: options[:40])
def test_what_cannot_be_is_refused_before_anything_is_written(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "constant.csv").write_text("0.1\n" * 80 + "1\n2\n" * 10)
    for name in ("a_forecast.csv", "b.png", "level.csv"):
        (tmp_path / name).write_text("1,5\n2,6\n" * 50 if name == "level.csv" else "1\n2\n" * 50)
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
    args = lstm_sine.read_options([])
    assert (args.length, args.freq, args.seq_length, args.hidden_size, args.num_layers, args.epochs,
            args.batch_size, args.lr, args.seed, args.split, args.subtract_last, args.schedule) == (
        1000, 0.1, 10, 50, 1, 50, 32, 0.001, 42, "random", False, "constant")
    own = lstm_sine.read_options(["--data", "a.csv"])
    assert (own.split, own.subtract_last) == ("time", True)
    with pytest.raises(SystemExit, match="0"):
        lstm_sine.read_options(["--help"])
    text = capsys.readouterr().out
    for value in ("[1000]", "[0.1]", "[0.001]", "[42]", "[sine]", "[constant]", "[auto]", "[zh]"):
        assert value in text


@pytest.mark.skipif(os.name == "nt", reason="Windows has other pipes and signals")
def test_a_closed_pipe_and_ctrl_c_end_quietly_and_leave_nothing_behind(tmp_path):
    pipe = start(tmp_path, "--epochs", "1000")
    slow = ("import sys, time, matplotlib.figure as m\nsys.path.insert(0, %r)\nimport lstm_sine\n"
            "def save(figure, path):\n path.write_text('half')\n print('half', flush=True)\n"
            " time.sleep(60)\nm.Figure.savefig = save\nlstm_sine.start()" % str(SCRIPT.parent))
    interrupted = subprocess.Popen(
        [sys.executable, "-c", slow, *QUICK.split()], cwd=tmp_path, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # as in a terminal
    pipe.stdout.readline()
    pipe.stdout.close()
    while "half" not in interrupted.stdout.readline():
        assert interrupted.poll() is None
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.communicate(timeout=30)[1] == "lstm_sine.py: error: interrupted\n"
    assert interrupted.returncode == 1
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


def test_an_old_figure_stays_where_a_run_fails_or_saving_does(tmp_path, monkeypatch):
    (tmp_path / "figure.png").write_text("old")
    with pytest.raises(FloatingPointError):
        monkeypatch.setattr(lstm_sine.nn, "MSELoss", lambda: lambda a, b: (a - b).mean() / 0)
        run_main(tmp_path, QUICK)
    monkeypatch.undo()

    def half(figure, path):
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(OSError, match="disk full"):
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


@pytest.mark.parametrize("error, message", [
    (MemoryError("Unable to allocate 1 PiB"), "Unable to allocate"), (OSError("No space"), "No space"),
    (RuntimeError("can't allocate memory: you tried\nto"), "can't allocate memory: you tried$")])
def test_what_goes_wrong_later_ends_in_one_line_and_a_fault_is_not_hidden(error, message, monkeypatch):
    def fail(raised):
        raise raised
    monkeypatch.setattr(lstm_sine, "main", lambda: fail(error))
    with pytest.raises(SystemExit, match=f"^lstm_sine.py: error: {message}"):
        lstm_sine.start()
    monkeypatch.setattr(lstm_sine, "main", lambda: fail(RuntimeError("shapes do not fit")))
    with pytest.raises(RuntimeError, match="shapes"):
        lstm_sine.start()


def test_auto_takes_cuda_only_where_it_is_available_and_the_lstm_keeps_float32(tmp_path, monkeypatch):
    torch.backends.cudnn.allow_tf32 = True
    run_main(tmp_path, QUICK)
    assert not torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert lstm_sine.read_options(["--device", "auto"]).device.type == "cpu"
