"""The script as a reader starts it: a process of its own, judged by status, output and files."""
import os
import re
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import numpy as np
import pytest
import torch
from conftest import SCRIPT
from matplotlib import font_manager
from test_training import PUBLISHED, TOLERANCE

import lstm_sine

QUICK = ["--epochs", "1", "--length", "60"]


def environment(**changes):
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")}
    return {k: v for k, v in {**env, **changes}.items() if v is not None}


def run(folder, *options, **changes):
    """Runs the script in `folder`; returns the finished process, its output as text."""
    return subprocess.run([sys.executable, str(SCRIPT), *options], cwd=folder, env=environment(**changes),
                          capture_output=True, text=True, timeout=100)


LEVEL = 300 + 40 * np.sin(np.arange(300) / 5) + np.random.default_rng(0).normal(size=300)
HOMELESS = dict(HOME="/nonexistent", MPLCONFIGDIR=None, XDG_CONFIG_HOME=None, XDG_CACHE_HOME=None)
RUNS = {
    "article": ([], {}),
    "wave": ("--freq 10 --split time --seq-length 6 --schedule one-cycle --lr 0.02 --epochs 40 --forecast 100".split(), {}),
    "file": ("--data level.csv --epochs 30 --lr 0.01 --forecast 50 --gates --output 图.pdf".split(), {}),
    "homeless": (QUICK, HOMELESS),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The runs above, two at a time: each one's folder and finished process."""
    folders = {name: tmp_path_factory.mktemp(name) for name in RUNS}
    rows = [f"day {k},{value:.4f}" for k, value in enumerate(LEVEL)]
    (folders["file"] / "level.csv").write_bytes(("\ufeffdate,level\r\n" + "\r\n".join(rows) + "\r\n").encode())
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda name: run(folders[name], *RUNS[name][0], **RUNS[name][1]), RUNS)
        return {name: (folders[name], process) for name, process in zip(RUNS, done)}


def is_png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.read_bytes()[-8:-4] == b"IEND"


def test_without_options_the_article_is_repeated_and_its_figure_written(runs):
    folder, done = runs["article"]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii() and len(done.stdout.splitlines()) == 12
    losses = {int(epoch): float(loss) for epoch, loss in re.findall(r"Epoch \[(\d+)/50], Loss: (\S+)", done.stdout)}
    assert losses == pytest.approx(PUBLISHED, rel=TOLERANCE)
    assert "LSTM 10,600 (a plain RNN of its size 2,650), head 51" in done.stdout
    assert "random, 792 training and 198 test windows of 10; 100% of the test targets also stand" in done.stdout
    lstm, persistence, linear = map(float, re.search(
        r"RMSE: LSTM (\S+), persistence (\S+), linear autoregression (\S+)", done.stdout).groups())
    assert (lstm, persistence) == (pytest.approx(1.03116e-3, rel=TOLERANCE), pytest.approx(5.838e-4, rel=1e-3))
    assert linear < 1e-10
    assert f"errs {lstm / persistence:.3g} times as much as persistence" in done.stdout and "the latter wins" in done.stdout
    assert [path.name for path in folder.iterdir()] == ["lstm_sine.png"] and is_png(folder / "lstm_sine.png")


WRONG_VALUES = [
    ("--length 0", "--length: invalid int .3 to .*'0'"),
    ("--length ten", "--length: invalid int .*'ten'"),
    ("--seq-length -3", "--seq-length: invalid int .1 to .*'-3'"),
    ("--hidden-size 0", "--hidden-size: invalid int .1 to"),
    ("--num-layers 0", "--num-layers: invalid int .1 to"),
    ("--epochs 0", "--epochs: invalid int .1 to"),
    ("--batch-size 0", "--batch-size: invalid int .1 to"),
    ("--batch-size 1.5", "--batch-size: invalid int .1 to .*'1.5'"),
    ("--threads 0", "--threads: invalid int .1 to"),
    ("--seed -1", "--seed: invalid int .0 to"),
    ("--forecast 0", "--forecast: invalid int .1 to"),
    ("--lr 0", "--lr: invalid float .*'0'"),
    ("--lr nan", "--lr: invalid float .*'nan'"),
    ("--freq -1", "--freq: invalid float"),
    ("--device cuda:99", "--device: 'cuda:99' is not on this machine; take auto or one of: cpu"),
    ("--device gpu", "--device: 'gpu' is not on this machine; take auto or one of: cpu"),
    ("--schedule linear", "--schedule: invalid choice: 'linear' .choose from '?constant'?, '?one-cycle"),
    ("--output figure.doc", "--output: 'figure.doc' is not the name of a .png, .pdf or .svg file"),
    ("--epoch 5", "unrecognized arguments: --epoch 5"),
]


@pytest.mark.parametrize("options, message", WRONG_VALUES)
def test_a_value_that_makes_no_sense_gets_one_line_and_status_2(options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        lstm_sine.command_line().parse_args(options.split())
    output = capsys.readouterr()
    assert (stopped.value.code, output.out, output.err.count("\n")) == (2, "", 1) and re.search(message, output.err)


WRONG_RUNS = [
    ("--length 10", "no window of 10 with a target fits into 10 points; take .* 1 to 9"),
    ("--length 11", "single window cannot be split; take a longer series or a shorter window"),
    ("--output no/such/folder.png", "--output: cannot write in 'no.*such' .*; name a file in a folder that exists"),
    ("--data none.csv", "cannot read none.csv: No such file.*takes a text file"),
    ("--data constant.csv", "constant.csv: the training part is constant"),
    ("--data gap.csv", "gap.csv: line 31: no number in column level"),
    ("--data short.csv", "short.csv: no window of 10 with a target fits into 3 points"),
    ("--column level", "--column .*--data"),
]


def test_a_run_that_cannot_be_gets_one_line_and_status_2_and_nothing_is_written(tmp_path):
    (tmp_path / "constant.csv").write_text("0.1\n" * 50)
    (tmp_path / "gap.csv").write_text("level\n" + "1.5\n" * 29 + "none\n" + "2.5\n" * 20)
    (tmp_path / "short.csv").write_text("1\n2\n3\n")
    before = sorted(tmp_path.iterdir())
    with ThreadPoolExecutor(2) as pool:
        runs = pool.map(lambda wrong: run(tmp_path, *wrong[0].split()), WRONG_RUNS)
        for (options, message), done in zip(WRONG_RUNS, runs):
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), (options, done.stderr)
            assert re.search(message, done.stderr), (options, done.stderr)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="every folder is writable for this user")
def test_a_read_only_folder_is_refused_before_training(tmp_path):
    tmp_path.chmod(0o500)
    done = run(tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and "cannot write in" in done.stderr


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that nobody can write in, as /proc is")
def test_a_folder_that_takes_no_file_is_refused_before_training(tmp_path):
    done = run(tmp_path, "--output", "/proc/lstm.png")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and "cannot write in" in done.stderr


def test_a_series_from_a_file_is_split_in_time_forecast_and_drawn_in_its_own_units(runs):
    folder, done = runs["file"]
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.isascii()
    assert "level.csv, column level, 300 points" in done.stdout and "split: time, 232 training and 58 test" in done.stdout
    assert "; 0% of the test targets" in done.stdout
    lstm, persistence = map(float, re.search(r"LSTM (\S+), persistence (\S+),", done.stdout).groups())
    assert persistence == pytest.approx(np.sqrt(np.mean(np.diff(LEVEL)[-58:] ** 2)), rel=1e-3)
    assert 1 < lstm < persistence  # below the noise of 1 nothing can be, and the values lie around 300
    assert 250 < float(re.search(r"50 free-running steps, the first (\S+)", done.stdout)[1]) < 350
    assert {path.name for path in folder.iterdir()} == {"level.csv", "图.pdf", "图_gates.pdf"}


def test_only_the_training_part_sets_the_scale(tmp_path):
    wave = np.sin(np.arange(100.0))
    for name, factor in (("plain", 1), ("spoilt", 50)):
        np.savetxt(tmp_path / f"{name}.csv", np.append(wave[:82], factor * wave[82:]))
    with ThreadPoolExecutor(2) as pool:
        outputs = [done.stdout for done in pool.map(lambda name: run(tmp_path, "--data", name, "--epochs", "2", "--output",
                                                                     name + ".svg"), ("plain.csv", "spoilt.csv"))]
    losses = [re.findall("Loss: (.*)", output) for output in outputs]
    assert losses[0] == losses[1] != []
    assert re.findall("RMSE.*", outputs[0]) != re.findall("RMSE.*", outputs[1])


def test_the_forecast_of_the_sine_is_held_against_its_true_continuation(runs):
    _, done = runs["wave"]
    assert float(re.search(r"RMSE against the true sine: (\S+)", done.stdout)[1]) < 0.05


def test_a_loss_that_is_not_finite_ends_the_run_with_status_1_and_the_old_figure_stays(tmp_path):
    (tmp_path / "lstm_sine.png").write_text("old")
    done = run(tmp_path, *QUICK, "--lr", "1e30")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert re.search("the loss is (inf|nan) in epoch 1; try a lower learning rate .--lr", done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["lstm_sine.png"]
    assert (tmp_path / "lstm_sine.png").read_text() == "old"


@pytest.mark.skipif(os.name == "nt", reason="a process cannot be sent Ctrl-C alone on Windows")
def test_ctrl_c_during_training_ends_with_one_line_and_status_130(tmp_path):
    process = subprocess.Popen([sys.executable, str(SCRIPT), "--epochs", "100000"], cwd=tmp_path, env=environment(),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # as in a terminal
    while "Epoch" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, "lstm_sine.py: interrupted\n") and not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_on_a_terminal_a_long_run_shows_how_long_it_will_take(tmp_path):
    import pty
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, str(SCRIPT), "--length", "2000", "--epochs", "100"], cwd=tmp_path,
                               env=environment(), stdout=subprocess.PIPE, stderr=theirs, text=True)
    shown = b""
    while b"s left" not in shown:
        shown += os.read(ours, 100)
    process.kill()
    assert re.search(rb"\d+%, \d+ s left", shown) and "left" not in process.communicate(timeout=30)[0]


def test_a_reader_who_closes_the_pipe_gets_no_traceback(tmp_path):
    process = subprocess.Popen([sys.executable, str(SCRIPT), *QUICK], cwd=tmp_path, env=environment(),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait(timeout=30) == 1 and error.count("\n") == 1 and "Broken pipe" in error


def test_without_a_home_the_run_ends_well_without_a_traceback(runs):
    folder, done = runs["homeless"]
    assert done.returncode == 0 and "Traceback" not in done.stderr and is_png(folder / "lstm_sine.png")


def test_help_groups_the_options_and_names_the_article_values():
    text = run(".", "--help").stdout
    groups = re.findall(r"^(\w+):$", text, flags=re.M)
    assert groups[-5:] == ["data", "windows", "model", "training", "results"] and text.isascii()
    for option, value in {"length": 1000, "freq": 0.1, "seq-length": 10, "hidden-size": 50, "num-layers": 1, "epochs": 50,
                          "batch-size": 32, "lr": 0.001, "seed": 42}.items():
        assert re.search(rf"--{option} \w+\s[^[]*\[{value}]", text), option


IMPORT = """
import random, sys, warnings
import matplotlib, numpy, torch
before = (torch.get_rng_state().tolist(), str(numpy.random.get_state()), random.getstate(), torch.get_num_threads(),
          dict(matplotlib.rcParams), torch.get_default_dtype(), sys.stdout.encoding, warnings.filters[:])
import lstm_sine
assert before == (torch.get_rng_state().tolist(), str(numpy.random.get_state()), random.getstate(),
                  torch.get_num_threads(), dict(matplotlib.rcParams), torch.get_default_dtype(), sys.stdout.encoding,
                  warnings.filters[:])
"""


def test_importing_the_module_changes_and_prints_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", IMPORT], env=environment(PYTHONPATH=str(SCRIPT.parent)), cwd=tmp_path,
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and not list(tmp_path.iterdir())


def test_a_font_that_draws_boxes_is_not_taken_for_a_chinese_one(monkeypatch):
    boxes = [font for font in font_manager.fontManager.ttflist if font.name.startswith(("Last Resort", "DejaVu"))]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", boxes)
    assert lstm_sine.chinese_font() is None


@pytest.mark.skipif(lstm_sine.chinese_font() is None, reason="no font for Chinese on this machine")
def test_chinese_labels_are_drawn_without_a_missing_glyph(tmp_path):
    font = lstm_sine.chinese_font()
    with matplotlib.rc_context({"font.family": ["DejaVu Sans", font]}), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        say, rng = lstm_sine.CHINESE.__getitem__, np.random.default_rng(0)
        figures = [lstm_sine.plot_predictions(rng.random(50), np.arange(40, 50), rng.random(10), rng.random(9), rng.random(9),
                                              say=say),
                   lstm_sine.plot_gates(rng.random(20), {letter: rng.random((20, 5)) for letter in "ifgoch"}, say=say)]
        for figure in figures:
            figure.savefig(tmp_path / "figure.png")
    assert figures[0].axes[0].get_title() == "LSTM预测结果" and figures[0].axes[0].get_ylabel() == "值"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_the_article_is_repeated_too(tmp_path):
    done = run(tmp_path, "--device", "cuda", "--gates", "--forecast", "10")
    assert (done.returncode, done.stderr) == (0, "") and "device: cuda" in done.stdout
    assert float(re.search(r"Epoch \[10/50], Loss: (\S+)", done.stdout)[1]) == pytest.approx(PUBLISHED[10], rel=0.01)
