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
from conftest import SCRIPT, series_tensors
from matplotlib import font_manager
from test_training import PUBLISHED, TOLERANCE
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset, random_split

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
WAVE = np.sin(np.arange(100.0))
HOMELESS = dict(HOME="/nonexistent", MPLCONFIGDIR=None, XDG_CONFIG_HOME=None, XDG_CACHE_HOME=None)
RUNS = {
    "article": ([], {}),
    "wave": ("--freq 10 --split time --seq-length 6 --schedule one-cycle --lr 0.02 --epochs 40 --forecast 100".split(), {}),
    "file": ("--data level.csv --epochs 30 --lr 0.01 --forecast 50 --gates --output 图.pdf".split(), {}),
    "options": ("--data level.csv --column 2 --split random --seq-length 5 --hidden-size 7 --num-layers 2 --batch-size 16 "
                "--lr 0.02 --seed 7 --threads 1 --epochs 2 --lang en --output options.svg".split(), dict(MATPLOTLIBRC="rc")),
    "homeless": ([*QUICK, "--output", "labels.svg"], dict(MATPLOTLIBRC="rc", **HOMELESS)),
    "diverged": ([*QUICK, "--lr", "1e30"], {}),
    "plain": (["--data", "plain.csv", "--epochs", "2"], {}),
    "spoilt": (["--data", "spoilt.csv", "--epochs", "2"], {}),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The runs above, two at a time: each one's folder and finished process."""
    folders = {name: tmp_path_factory.mktemp(name) for name in RUNS}
    rows = [f"day {k},{value:.4f}" for k, value in enumerate(LEVEL)]
    for name in ("file", "options"):
        (folders[name] / "level.csv").write_bytes(("\ufeffdate,level\r\n" + "\r\n".join(rows) + "\r\n").encode())
    for name in ("options", "homeless"):
        (folders[name] / "rc").write_text("svg.fonttype: none")  # text stays text, to be read below
    for name, factor in (("plain", 1), ("spoilt", 50)):
        np.savetxt(folders[name] / f"{name}.csv", np.append(WAVE[:82], factor * WAVE[82:]))
    for name in ("article", "diverged"):
        (folders[name] / "lstm_sine.png").write_text("old")
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
    assert "CPU threads: 1, seed: 42" in done.stdout
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
    ("--data .", "cannot read .: .*takes a text file"),
    ("--data none.csv", "cannot read none.csv: No such file.*takes a text file"),
    ("--data constant.csv", "constant.csv: the training part is constant"),
    ("--data gap.csv", "gap.csv: line 31: no number in column level"),
    ("--data short.csv", "short.csv: no window of 10 with a target fits into 3 points"),
    ("--column level", "--column .*--data"),
]
if os.path.isdir("/proc/self"):  # a folder that takes no file, whoever asks
    WRONG_RUNS.append(("--output /proc/lstm.png", "cannot write in '/proc'"))


@pytest.fixture
def wrong_files(tmp_path):
    (tmp_path / "constant.csv").write_text("0.1\n" * 50)
    (tmp_path / "gap.csv").write_text("level\n" + "1.5\n" * 29 + "none\n" + "2.5\n" * 20)
    (tmp_path / "short.csv").write_text("1\n2\n3\n")
    return tmp_path


@pytest.mark.parametrize("options, message", WRONG_RUNS)
def test_a_run_that_cannot_be_is_refused_before_training(options, message, wrong_files, monkeypatch, capsys):
    monkeypatch.chdir(wrong_files)
    with pytest.raises(SystemExit) as stopped:
        lstm_sine.main(options.split())
    output = capsys.readouterr()
    assert (stopped.value.code, output.out, output.err.count("\n")) == (2, "", 1) and re.search(message, output.err)


def test_a_refused_run_gets_one_line_and_status_2_and_writes_nothing(wrong_files):
    before = sorted(wrong_files.iterdir())
    done = run(wrong_files, "--data", "gap.csv")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "gap.csv: line 31: no number in column level" in done.stderr and sorted(wrong_files.iterdir()) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="every folder is writable for this user")
def test_a_read_only_folder_is_refused_before_training(tmp_path):
    tmp_path.chmod(0o500)
    done = run(tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and "cannot write in" in done.stderr


def test_a_series_from_a_file_is_split_in_time_forecast_and_drawn_in_its_own_units(runs):
    folder, done = runs["file"]
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.isascii()
    assert "level.csv, column level, 300 points" in done.stdout and "split: time, 232 training and 58 test" in done.stdout
    assert "; 0% of the test targets" in done.stdout
    lstm, persistence = map(float, re.search(r"LSTM (\S+), persistence (\S+),", done.stdout).groups())
    assert persistence == pytest.approx(np.sqrt(np.mean(np.diff(LEVEL)[-58:] ** 2)), rel=1e-3)
    assert 1 < lstm < persistence  # in units of the file: noise of 1 on values around 300
    assert 250 < float(re.search(r"50 free-running steps, the first (\S+)", done.stdout)[1]) < 350
    assert {path.name for path in folder.iterdir()} == {"level.csv", "图.pdf", "图_gates.pdf"}


def test_only_the_training_part_sets_the_scale(runs):
    outputs = [runs[name][1].stdout for name in ("plain", "spoilt")]
    losses = [re.findall("Loss: (.*)", output) for output in outputs]
    assert losses[0] == losses[1] != []
    assert re.findall("RMSE.*", outputs[0]) != re.findall("RMSE.*", outputs[1])


def test_every_option_of_data_windows_model_and_training_takes_effect(runs):
    folder, done = runs["options"]
    assert (done.returncode, done.stderr) == (0, "")
    assert "CPU threads: 1, seed: 7" in done.stdout and "column level" in done.stdout and "split: random" in done.stdout
    assert f"LSTM {4 * 7 * (1 + 7 + 2) + 4 * 7 * (7 + 7 + 2)} (" in done.stdout and "head 8" in done.stdout
    torch.manual_seed(7)
    level = LEVEL.round(4)
    train, _ = random_split(range(295), [236, 59])
    targets = level[5:][train.indices]
    x, y = series_tensors((level - targets.mean()) / targets.std(), 5)
    model = lstm_sine.LSTMModel(hidden_size=7, num_layers=2)
    loader = DataLoader(Subset(TensorDataset(x, y), train.indices), batch_size=16, shuffle=True)
    losses = lstm_sine.train_model(model, loader, nn.MSELoss(), torch.optim.Adam(model.parameters(), lr=0.02), 2, report=str)
    assert float(re.search(r"\[2/2], Loss: (\S+)", done.stdout)[1]) == pytest.approx(losses[-1], rel=1e-4)
    assert "LSTM prediction results" in (folder / "options.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("winner", ["persistence", "the LSTM"])
def test_the_winner_has_the_smallest_error(winner, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    steps = np.random.default_rng(0).normal(size=60)  # nothing beats the last value of a random walk, a mean does on noise
    np.savetxt("series.csv", np.cumsum(steps) if winner == "persistence" else steps)
    lstm_sine.main("--data series.csv --epochs 1 --seq-length 5 --no-show".split())
    found = re.search(r"LSTM (\S+), persistence (\S+), linear autoregression (\S+)\n.*: (.*) wins", capsys.readouterr().out)
    errors = dict(zip(("the LSTM", "persistence", "the latter"), map(float, found.groups())))
    assert found[4] == winner == min(errors, key=errors.get)


def test_the_forecast_of_the_sine_is_held_against_its_true_continuation(runs):
    _, done = runs["wave"]
    assert float(re.search(r"RMSE against the true sine: (\S+)", done.stdout)[1]) < 0.05


def test_a_loss_that_is_not_finite_ends_the_run_with_status_1_and_the_old_figure_stays(runs):
    folder, done = runs["diverged"]
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert re.search("the loss is (inf|nan) in epoch 1; try a lower learning rate .--lr", done.stderr)
    assert [path.name for path in folder.iterdir()] == ["lstm_sine.png"]
    assert (folder / "lstm_sine.png").read_text() == "old"


def test_a_figure_that_cannot_be_written_whole_leaves_the_old_one_and_no_part(tmp_path, monkeypatch):
    def half(figure, path, **options):
        path.write_text("half")
        raise OSError("disk full")

    path = tmp_path / "figure.png"
    path.write_text("old")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(OSError, match="disk full"):
        lstm_sine.main([*QUICK, "--no-show", "--output", str(path)])
    assert [part.name for part in tmp_path.iterdir()] == ["figure.png"] and path.read_text() == "old"


def test_the_true_continuation_goes_on_where_the_sine_ends(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(lstm_sine, "plot_predictions", lambda *args, plot=lstm_sine.plot_predictions: (
        drawn.append(args), plot(*args))[1])
    lstm_sine.main([*QUICK, "--freq", "3", "--forecast", "200", "--no-show", "--output", str(tmp_path / "figure.png")])
    (series, _, _, future, truth, _), = drawn
    assert future.shape == (200,)
    np.testing.assert_allclose(truth, np.sin(2 * np.pi * 3 * np.arange(60, 260) / 59), atol=1e-9)


def test_the_gates_drawn_are_the_last_layers_at_the_last_step_of_the_test_windows_in_time(tmp_path, monkeypatch):
    models, drawn = [], []
    monkeypatch.setattr(lstm_sine, "evaluate_model", lambda model, loader, evaluate=lstm_sine.evaluate_model: (
        models.append(model), evaluate(model, loader))[1])
    monkeypatch.setattr(lstm_sine, "plot_gates", lambda *args, plot=lstm_sine.plot_gates: (drawn.append(args), plot(*args))[1])
    lstm_sine.main([*QUICK, "--num-layers", "2", "--gates", "--no-show", "--output", str(tmp_path / "figure.png")])
    torch.manual_seed(42)
    _, test = random_split(range(50), [40, 10])
    x, _ = series_tensors(lstm_sine.generate_sequence(60), 10)
    x = x[sorted(test.indices)]
    (inputs, gates, _), = drawn
    np.testing.assert_allclose(inputs, x[:, -1, 0], atol=1e-7)
    with torch.no_grad():
        _, (h, c) = models[0].lstm(x)
    np.testing.assert_allclose(gates["h"], h[-1], atol=1e-6)
    np.testing.assert_allclose(gates["c"], c[-1], atol=1e-6)


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
    assert done.returncode == 0 and "Traceback" not in done.stderr and (folder / "labels.svg").stat().st_size > 10_000


def test_help_groups_the_options_and_names_the_article_values():
    text = lstm_sine.command_line().format_help()
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


HAS_CHINESE = any("CJK" in font.name or font.name in ("SimHei", "Microsoft YaHei", "PingFang SC", "WenQuanYi Zen Hei")
                  for font in font_manager.fontManager.ttflist)


def test_a_font_that_draws_boxes_is_not_taken_for_a_chinese_one(monkeypatch):
    boxes = [font for font in font_manager.fontManager.ttflist if font.name.startswith("Last Resort")]
    if not boxes:
        pytest.skip("this matplotlib brings no font of boxes")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", boxes)
    assert lstm_sine.chinese_font() is None


def test_the_labels_are_chinese_where_a_font_has_them_and_english_elsewhere(runs):
    text = (runs["homeless"][0] / "labels.svg").read_text(encoding="utf-8")
    assert ("LSTM预测结果" in text) == HAS_CHINESE and ("LSTM prediction results" in text) != HAS_CHINESE


@pytest.mark.skipif(not HAS_CHINESE, reason="no font for Chinese on this machine")
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
