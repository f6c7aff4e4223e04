"""The script as a reader starts it: in a process of its own, judged by status, output and files."""
import io
import os
import re
import runpy
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
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
NOT_INHERITED = ("PYTHON", "MPL", "MATPLOTLIB", "OMP_", "MKL_", "DISPLAY", "WAYLAND_DISPLAY")


def environment(**changes):
    """What a process inherits; with agg, since elsewhere than on Linux a window would open."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(NOT_INHERITED)}
    env["MPLBACKEND"] = "agg"
    return {k: v for k, v in {**env, **changes}.items() if v is not None}


def run(folder, *options, **changes):
    """Runs the script in `folder`; returns the finished process, its output as text."""
    return subprocess.run([sys.executable, str(SCRIPT), *options], cwd=folder, timeout=100,
                          env=environment(PYTHONDONTWRITEBYTECODE="1", **changes),
                          stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8")


LEVEL = 300 + 40 * np.sin(np.arange(300) / 5) + np.random.default_rng(0).normal(size=300)
HOMELESS = {"HOME": os.devnull, "XDG_CONFIG_HOME": None, "XDG_CACHE_HOME": None}
WAVE = "--freq 10 --split time --seq-length 6 --schedule one-cycle --lr 0.02"
RUNS = {
    "article": ([], {"PYTHONIOENCODING": "utf-8"}),
    "wave": ([*WAVE.split(), *"--epochs 40 --forecast 100".split()],
             {"MPLBACKEND": None} if sys.platform == "linux" else {}),
    "file": ("--data 水位.csv --column level --epochs 30 --lr 0.01 --forecast 50 --gates "
             "--output 图.pdf".split(), {"PYTHONIOENCODING": "utf-8"}),
    "options": ("--data level.csv --column 2 --split random --seq-length 5 --hidden-size 7 "
                "--num-layers 2 --no-subtract-last --batch-size 16 --lr 0.02 --seed 7 --threads 1 "
                "--epochs 2 --lang en --output options.svg".split(), {"MATPLOTLIBRC": "rc"}),
    "homeless": ([*QUICK, "--output", "labels.svg"], {"MATPLOTLIBRC": "rc", **HOMELESS}),
    "diverged": ([*QUICK, "--lr", "1e30"], {}),
    "mackey": ("--series mackey-glass --length 300 --split time --epochs 2 --forecast 20".split(),
               {"PYTHONIOENCODING": "ascii"}),
    "notebook": ([*QUICK], {"MPLBACKEND": "module://no_such_backend", "PYTHONUNBUFFERED": "1"}),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The runs above, two at a time: each one's folder and finished process."""
    folders = {name: tmp_path_factory.mktemp(name) for name in RUNS}
    rows = [f"day {k},{value:.4f}" for k, value in enumerate(LEVEL)]
    text = "\ufeffdate,level\r\n" + "\r\n".join(rows) + "\r\n"
    (folders["file"] / "水位.csv").write_bytes(text.encode())
    (folders["options"] / "level.csv").write_bytes(text.encode())
    for name in ("options", "homeless"):
        (folders[name] / "rc").write_text("svg.fonttype: none")  # text stays text, to be read below
    for name in ("article", "diverged"):
        (folders[name] / "lstm_sine.png").write_text("old")
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda name: run(folders[name], *RUNS[name][0], **RUNS[name][1]), RUNS)
        return {name: (folders[name], process) for name, process in zip(RUNS, done)}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def is_png(path):
    content = path.read_bytes()
    return content[:8] == b"\x89PNG\r\n\x1a\n" and content[-8:-4] == b"IEND"


HAS_CHINESE = bool(set(lstm_sine.FONTS) & set(font_manager.fontManager.get_font_names()))
NO_FONT = [] if HAS_CHINESE else ["labels: English, since no font on this machine can draw "
                                  "Chinese ones"]


def test_without_options_the_article_is_repeated_and_its_figure_written(runs):
    folder, done = runs["article"]
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert re.match(r"device: \w+(:0)?, CPU threads: 1, seed: 42$", lines[0])
    assert lines[1:4] == [
        "data: 0.1 cycles of a sine, 1,000 points",
        "split: random, 792 training and 198 test windows of 10; 198 of 198 test targets were also "
        "in training windows",
        "parameters: LSTM 10,600 (a plain RNN of its size 2,650), head 51"]
    losses = [re.match(r"Epoch \[(\d+)/50\], Loss: (\S+)$", line).groups() for line in lines[4:9]]
    assert {int(epoch): float(loss) for epoch, loss in losses} == pytest.approx(PUBLISHED,
                                                                                rel=TOLERANCE)
    check, difference = lines[9].rsplit(" ", 1)
    assert check == "the equations by hand differ from nn.LSTM by at most"
    assert float(difference) < 1e-5
    lstm, persistence, linear = map(float, re.match(
        r"test RMSE: LSTM (\S+), persistence (\S+), linear autoregression (\S+)$",
        lines[10]).groups())
    assert lstm == pytest.approx(1.03116e-3, rel=TOLERANCE)
    assert persistence == pytest.approx(5.838e-4, rel=1e-3) and linear < 1e-10
    assert lines[11] == (
        f"The LSTM errs {lstm / persistence:.3g} times as much as persistence and more than linear "
        "autoregression, which is exact but for rounding: linear autoregression wins.")
    assert lines[12] == (
        "Why it loses to persistence: one step moves the series by only 5.84e-04, and the LSTM, "
        "which has to hit the level too, misses by 1.03e-03; --subtract-last lets it predict the "
        "change.")
    assert lines[13:] == [*NO_FONT, "figure: lstm_sine.png"]
    assert names(folder) == ["lstm_sine.png"] and is_png(folder / "lstm_sine.png")


WRONG_VALUES = [
    ("--length 2", "--length: invalid int .3 to 100000000. value: '2'"),
    ("--length ten", "--length: invalid int .*'ten'"),
    ("--seq-length -3", "--seq-length: invalid int .1 to .*'-3'"),
    ("--hidden-size 0", "--hidden-size: invalid int .1 to 10000.*'0'"),
    ("--num-layers 0", "--num-layers: invalid int .1 to 100.*'0'"),
    ("--epochs 0", "--epochs: invalid int .1 to"),
    ("--batch-size 0", "--batch-size: invalid int .1 to"),
    ("--batch-size 1.5", "--batch-size: invalid int .1 to .*'1.5'"),
    ("--threads 0", "--threads: invalid int .1 to"),
    ("--seed -1", "--seed: invalid int .0 to"),
    ("--seed 18446744073709551616", "--seed: invalid int .0 to 18446744073709551615"),
    ("--forecast 0", "--forecast: invalid int .1 to 1000000."),
    ("--lr 0", "--lr: invalid float .*'0'"),
    ("--lr nan", "--lr: invalid float .*'nan'"),
    ("--freq -1", "--freq: invalid float .1e-06 to"),
    ("--device gpu", "--device: 'gpu' does not work here: take auto, cpu, cuda or cuda:N"),
    ("--device cpux", "--device: 'cpux' does not work here: ."),
    ("--device meta", "--device: 'meta' does not work here: take auto, cpu, cuda or cuda:N"),
    ("--schedule linear", "--schedule: invalid choice: 'linear' .choose from '?constant'?, '?one-"),
    ("--series sinus", "--series: invalid choice: 'sinus' .choose from '?sine'?, '?mackey-glass"),
    ("--split none", "--split: invalid choice: 'none' .choose from '?random'?, '?time"),
    ("--lang de", "--lang: invalid choice: 'de' .choose from '?zh'?, '?en"),
    ("--series sine --data a.csv", "--data: not allowed with argument --series"),
    ("--output figure.doc", "--output: 'figure.doc' does not name a .png, .pdf or .svg file"),
    ("--output folder.png", "--output: 'folder.png' does not name a .png, .pdf or .svg file"),
    ("--output no/such/folder.png", "--output: cannot write 'no/such/folder.png': ."),
    (f"--output {250 * 'x'}.png", "--output: cannot write 'xxx.*name too long|cannot write"),
    ("--epoch 5", "unrecognized arguments: --epoch 5 .--help lists the options"),
    ("--length 11", "11 points hold no two windows of 10 with a target, to train on and to test; "
                    "take a longer series or a smaller --seq-length"),
    ("--data .", "--data '.' cannot be used: "),
    ("--data none.csv", "--data 'none.csv' cannot be used: .*No such file"),
    ("--data=", "--data '' cannot be used: "),
    ("--data constant.csv", "constant.csv, column 1: the first 80 % are constant"),
    ("--data huge.csv", "huge.csv, column 1: .* or over 1e100"),
    ("--data gap.csv", "gap.csv' cannot be used: line 31: .*'none'; fill gaps, write decimal"),
    ("--data short.csv", "3 points hold no two windows of 10"),
    ("--data zeros.csv", "0 points hold no two windows of 10"),
    ("--data two.csv", "two.csv' cannot be used: choose one of its 2 columns by --column: a, b"),
    ("--column level", "--column names a column of a file; give the file with --data"),
    ("--data a_forecast.csv --output a.png", "a_forecast.csv would be written over; give another"),
    ("--data b.png --output ./b.png", "b.png would be written over"),
    ("--data b_gates.png --output b.png", "b_gates.png would be written over"),
]


try:
    torch.zeros(1, device="cuda:99")  # an emulated GPU takes any number
except (AssertionError, RuntimeError):
    WRONG_VALUES.append(("--device cuda:99", "--device: 'cuda:99' does not work here: ."))


@pytest.fixture
def wrong_files(tmp_path, monkeypatch):
    (tmp_path / "constant.csv").write_text("0.1\n" * 80 + "1\n2\n" * 10)
    (tmp_path / "huge.csv").write_text("1e200\n-1e200\n" * 50)
    (tmp_path / "gap.csv").write_text("level\n" + "1.5\n" * 29 + "none\n" + "2.5\n" * 20)
    (tmp_path / "short.csv").write_text("1\n2\n3\n")
    (tmp_path / "two.csv").write_text("a,b\n1,2\n")
    (tmp_path / "zeros.csv").write_bytes(bytes(100))
    (tmp_path / "folder.png").mkdir()
    for name in ("a_forecast.csv", "b.png", "b_gates.png"):
        (tmp_path / name).write_text("1\n2\n" * 50)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("options, message", WRONG_VALUES)
def test_what_cannot_be_gets_one_line_and_status_2_and_nothing_is_written(options, message, capsys,
                                                                          wrong_files):
    before = names(wrong_files)
    with pytest.raises(SystemExit) as stopped:
        lstm_sine.main([*options.split(), "--no-show"])
    output = capsys.readouterr()
    assert (stopped.value.code, output.out, output.err.count("\n")) == (2, "", 1)
    assert output.err.startswith("lstm_sine.py: error: ") and re.search(message, output.err)
    assert names(wrong_files) == before


def test_a_refused_run_gets_one_line_and_status_2_from_a_process_too(wrong_files):
    done = run(wrong_files, "--data", "gap.csv")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "'gap.csv' cannot be used: line 31: " in done.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0,
                    reason="every folder is writable for this user")
def test_a_read_only_folder_is_refused_before_training(tmp_path):
    tmp_path.chmod(0o500)
    done = run(tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "cannot write" in done.stderr


def test_a_series_from_a_file_is_split_in_time_forecast_and_drawn_in_its_own_units(runs):
    folder, done = runs["file"]
    assert (done.returncode, done.stderr) == (0, "")
    assert "data: 水位.csv, column level, 300 points\n" in done.stdout
    assert "split: time, 232 training and 58 test windows of 10; 0 of 58 test" in done.stdout
    assert "head 51, on the change alone\n" in done.stdout
    start = LEVEL[:240].round(4)
    mean, unit = start.mean(), np.sqrt(np.mean(np.diff(start) ** 2))
    assert f"scale: (value - {mean:.6g}) / {unit:.6g}; losses are in this scale, RMSEs in the " \
           "units of the data\n" in done.stdout
    lstm, persistence = map(float, re.search(r"LSTM (\S+), persistence (\S+),",
                                             done.stdout).groups())
    assert persistence == pytest.approx(np.sqrt(np.mean(np.diff(LEVEL)[-58:] ** 2)), rel=1e-3)
    assert 1 < lstm < persistence  # in units of the file: noise of 1 on values around 300
    first = float(re.search(r"50 free-running steps, the first (\S+)\n", done.stdout)[1])
    assert 250 < first < 350 and "RMSE against" not in done.stdout
    assert done.stdout.endswith("figure: 图.pdf\nfigure: 图_gates.pdf\nforecast: 图_forecast.csv\n")
    assert names(folder) == ["图.pdf", "图_forecast.csv", "图_gates.pdf", "水位.csv"]
    steps, future = lstm_sine.read_series(folder / "图_forecast.csv", "step")[0], \
        lstm_sine.read_series(folder / "图_forecast.csv", "forecast")[0]
    assert steps.tolist() == list(range(300, 350)) and future[0] == pytest.approx(first, rel=1e-5)


def test_every_option_of_data_windows_model_and_training_takes_effect(runs):
    folder, done = runs["options"]
    assert (done.returncode, done.stderr) == (0, "")
    assert "CPU threads: 1, seed: 7" in done.stdout and "column level" in done.stdout
    assert "split: random, 236 training and 59 test windows of 5;" in done.stdout
    recurrent = 4 * 7 * (1 + 7 + 2) + 4 * 7 * (7 + 7 + 2)
    assert f"LSTM {recurrent} (a plain RNN of its size {recurrent // 4}), head 8\n" in done.stdout
    torch.manual_seed(7)
    level = LEVEL.round(4)
    train, _ = random_split(range(295), [236, 59])
    x, y = series_tensors((level - level[:240].mean()) / level[:240].std(), 5)
    model = lstm_sine.LSTMModel(hidden_size=7, num_layers=2)
    loader = DataLoader(Subset(TensorDataset(x, y), train.indices), batch_size=16, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = lstm_sine.train_model(model, loader, nn.MSELoss(), optimizer, 2)
    assert float(re.search(r"\[2/2\], Loss: (\S+)", done.stdout)[1]) == pytest.approx(losses[-1],
                                                                                     rel=1e-4)
    drawn = (folder / "options.svg").read_text(encoding="utf-8")
    assert "LSTM prediction results" in drawn and "level.csv, column level" in drawn


def test_the_forecast_of_the_sine_is_held_against_its_true_continuation(runs):
    folder, done = runs["wave"]
    error = float(re.search(r"RMSE against what truly follows: (\S+)\n", done.stdout)[1])
    future, _ = lstm_sine.read_series(folder / "lstm_sine_forecast.csv", "forecast")
    truth = np.sin(2 * np.pi * 10 * np.arange(1000, 1100) / 999)
    assert lstm_sine.rmse(future, truth) == pytest.approx(error, rel=1e-5) and error < 0.05


def test_mackey_glass_is_named_standardised_and_forecast(runs):
    _, done = runs["mackey"]
    assert (done.returncode, done.stderr) == (0, "")
    assert ("data: Mackey-Glass series, chaotic: any forecast leaves it after a while, 300 points\n"
            in done.stdout)
    start = lstm_sine.mackey_glass(300)[:240]
    assert f"scale: (value - {start.mean():.6g}) / {start.std():.6g}; " in done.stdout
    assert "head 51\n" in done.stdout
    assert re.search(r"forecast RMSE against what truly follows: \d", done.stdout)


def test_a_loss_that_is_not_finite_ends_with_status_1_and_the_old_figure_stays(runs):
    folder, done = runs["diverged"]
    assert done.returncode == 1 and re.fullmatch(
        r"lstm_sine.py: error: the loss is (inf|nan) in epoch 1; try a lower --lr\n", done.stderr)
    assert names(folder) == ["lstm_sine.png"]
    assert (folder / "lstm_sine.png").read_text() == "old"


def test_a_backend_that_is_not_installed_costs_the_window_and_not_the_figure(runs):
    folder, done = runs["notebook"]
    assert (done.returncode, done.stderr) == (0, "")
    assert "no window: " in done.stdout and "no_such_backend" in done.stdout
    assert is_png(folder / "lstm_sine.png")


def test_without_a_home_the_run_ends_well_without_a_traceback(runs):
    folder, done = runs["homeless"]
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert (folder / "labels.svg").stat().st_size > 10_000


def test_the_labels_are_chinese_where_a_font_has_them_and_english_elsewhere(runs):
    text = (runs["homeless"][0] / "labels.svg").read_text(encoding="utf-8")
    assert ("LSTM预测结果" in text) == HAS_CHINESE
    assert ("LSTM prediction results" in text) != HAS_CHINESE


@pytest.fixture
def captured(monkeypatch):
    """Keeps what `main` hands to the drawing and saving functions, and the models it trains."""
    kept = {}

    def keep(name):
        original = getattr(lstm_sine, name)

        def instead(*args):
            kept[name] = args
            return original(*args)
        monkeypatch.setattr(lstm_sine, name, instead)

    for name in ("plot_predictions", "plot_memory", "train_model", "check_by_hand", "forecast",
                 "verdict", "save_and_show", "evaluate_model"):
        keep(name)
    return kept


@pytest.mark.parametrize("subtract", ["--subtract-last", "--no-subtract-last"])
def test_what_reaches_the_figures_is_in_the_units_of_the_data(subtract, captured, tmp_path,
                                                              monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savetxt("level.csv", LEVEL)
    lstm_sine.main(["--data", "level.csv", "--epochs", "3", "--forecast", "7", "--gates", subtract,
                    "--seq-length", "8", "--split", "random", "--seed", "5", "--no-show"])
    torch.manual_seed(5)
    train, test = (np.array(part.indices) for part in random_split(range(292), [233, 59]))
    figure, name, series, test_steps, predicted, losses, persistence_loss, future, truth = captured[
        "plot_predictions"]
    assert name == "level.csv, column 1" and truth is None
    np.testing.assert_array_equal(series, LEVEL)
    np.testing.assert_array_equal(test_steps, test + 8)
    assert list(predicted) == ["LSTM", "persistence", "linear autoregression"]
    np.testing.assert_allclose(predicted["persistence"], LEVEL[test + 7])
    columns = np.array([[*LEVEL[k:k + 8], 1] for k in range(292)])
    weights = np.linalg.lstsq(columns[train], LEVEL[train + 8], rcond=None)[0]
    np.testing.assert_allclose(predicted["linear autoregression"], columns[test] @ weights)

    mean, unit = LEVEL[:240].mean(), LEVEL[:240].std()
    if subtract == "--subtract-last":
        unit = np.sqrt(np.mean(np.diff(LEVEL[:240]) ** 2))
    scaled = torch.FloatTensor((LEVEL - mean) / unit)
    model = captured["train_model"][0]
    assert captured["plot_memory"][1] is model
    model.cpu()
    kind = lstm_sine.SubtractLast if subtract == "--subtract-last" else lstm_sine.LSTMModel
    assert type(model) is kind
    with torch.no_grad():
        windows = torch.stack([scaled[k:k + 8] for k in test]).unsqueeze(-1)
        expected = model(windows)[:, 0].double().numpy() * unit + mean
        np.testing.assert_allclose(predicted["LSTM"], expected, atol=1e-4)
        one_ahead = model(scaled[-8:].view(1, 8, 1)).item() * unit + mean
    assert len(losses) == 3 and len(future) == 7
    assert future[0] == pytest.approx(one_ahead, abs=1e-4)
    moves = scaled[train + 8] - scaled[train + 7]
    assert persistence_loss == pytest.approx(moves.square().mean().item(), rel=1e-5)

    torch.testing.assert_close(captured["plot_memory"][2].cpu(), scaled[-9:-1].view(1, 8, 1))
    torch.testing.assert_close(captured["check_by_hand"][1].cpu(), windows[:32])
    assert captured["verdict"][0] is predicted
    np.testing.assert_array_equal(captured["verdict"][1], LEVEL[test + 8])
    assert captured["verdict"][2] == (subtract == "--subtract-last")
    assert figure is captured["save_and_show"][0][Path("lstm_sine.png")]
    assert list(captured["save_and_show"][0]) == [Path("lstm_sine.png"),
                                                  Path("lstm_sine_gates.png")]
    np.testing.assert_allclose(np.loadtxt("lstm_sine_forecast.csv", delimiter=",", skiprows=1),
                               np.column_stack([300 + np.arange(7), future]))
    assert Path("lstm_sine_forecast.csv").read_text().startswith("step,forecast\n300,")


def test_the_sine_is_not_scaled_and_its_true_future_reaches_the_figure(captured, tmp_path,
                                                                       monkeypatch):
    monkeypatch.chdir(tmp_path)
    lstm_sine.main([*QUICK, "--freq", "3", "--forecast", "30", "--no-show"])
    series, predicted, truth = (captured["plot_predictions"][k] for k in (2, 4, 8))
    np.testing.assert_allclose(series, np.sin(2 * np.pi * 3 * np.arange(60) / 59), atol=1e-12)
    np.testing.assert_allclose(truth, np.sin(2 * np.pi * 3 * np.arange(60, 90) / 59), atol=1e-9)
    assert type(captured["train_model"][0]) is lstm_sine.LSTMModel
    steps = captured["plot_predictions"][3]
    np.testing.assert_array_equal(predicted["persistence"], series[steps - 1])


def test_another_cell_goes_by_its_own_name_and_has_nothing_to_compare(tmp_path, monkeypatch,
                                                                      capsys):
    class WithGRU(lstm_sine.LSTMModel):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.lstm = nn.GRU(1, 50, batch_first=True)

    monkeypatch.setattr(lstm_sine, "LSTMModel", WithGRU)
    monkeypatch.chdir(tmp_path)
    lstm_sine.main([*QUICK, "--no-show", "--device", "cpu"])
    output = capsys.readouterr().out
    assert "parameters: GRU 7,950" in output and "test RMSE: GRU " in output
    assert "nothing to compare" in output


def errors_of(lstm, persistence, linear, scale=1.0):
    """Predictions with these RMSEs for actual values of about `scale`."""
    actual = scale * np.array([1.0, -1.0])
    return {"LSTM": actual + lstm, "persistence": actual - persistence,
            "linear autoregression": actual + linear}, actual


@pytest.mark.parametrize("errors, winner", [
    ((1, 2, 3), "LSTM"), ((2, 1, 3), "persistence"), ((3, 2, 1), "linear autoregression")])
def test_the_winner_has_the_smallest_error(errors, winner):
    text = lstm_sine.verdict(*errors_of(*errors), subtract_last=True)
    lstm, persistence, linear = errors
    assert text.splitlines() == [
        f"test RMSE: LSTM {lstm:.6e}, persistence {persistence:.6e}, linear autoregression "
        f"{linear:.6e}",
        f"The LSTM errs {lstm / persistence:.3g} times as much as persistence and "
        f"{lstm / linear:.3g} times as much as linear autoregression: {winner} wins."]


def test_the_verdict_says_why_the_lstm_loses_to_persistence_and_what_mends_it():
    predicted, actual = errors_of(2, 1, 3)
    assert "--subtract-last" in lstm_sine.verdict(predicted, actual, False).splitlines()[2]
    assert "--subtract-last" not in lstm_sine.verdict(predicted, actual, True)
    assert "--subtract-last" not in lstm_sine.verdict(*errors_of(1, 2, 3), False)
    assert "--subtract-last" not in lstm_sine.verdict(*errors_of(2, 2, 3), False)


@pytest.mark.parametrize("scale", [1e-13, 1, 1e13])
def test_an_error_of_rounding_is_said_in_words_in_any_unit(scale):
    text = lstm_sine.verdict(*errors_of(scale, 2 * scale, 1e-15 * scale, scale), True)
    assert "0.5 times as much as persistence and more than linear autoregression, which is exact " \
           "but for rounding: linear autoregression wins." in text


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_error_that_is_no_number_lets_nobody_win(bad, place):
    errors = [1, 2, 3]
    errors[place] = bad
    text = lstm_sine.verdict(*errors_of(*errors), False)
    assert text.endswith("\nAn error is not a finite number: nothing wins.")


def test_the_verdict_does_not_depend_on_the_unit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    noisy = np.sin(np.arange(150) / 3) + 0.3 * np.random.default_rng(1).normal(size=150)
    verdicts = []
    for factor, offset in ((1, 0), (1e-13, 0), (1e13, 0), (1, 1e9)):
        np.savetxt("noisy.csv", factor * noisy + offset, fmt="%.17g")
        lstm_sine.main("--data noisy.csv --epochs 3 --no-show".split())
        verdicts.append(re.search("The LSTM errs.*", capsys.readouterr().out)[0])
    found = [(re.findall(r"\d\.\d+", text), text.split(": ")[-1]) for text in verdicts]
    for ratios, winner in found[1:]:
        assert winner == found[0][1]
        assert list(map(float, ratios)) == pytest.approx(list(map(float, found[0][0])), rel=2e-3)


def test_only_the_first_80_percent_set_the_scale(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wave = np.sin(np.arange(100.0))
    outputs = []
    for factor in (1, 50):
        np.savetxt("wave.csv", np.append(wave[:82], factor * wave[82:]))
        lstm_sine.main("--data wave.csv --epochs 2 --no-show".split())
        outputs.append(capsys.readouterr().out)
    losses = [re.findall("(?:Loss|scale): .*", output) for output in outputs]
    assert losses[0] == losses[1] != [] and len(losses[0]) == 2
    assert "range: " not in outputs[0]
    outside = (abs(50 * wave[82:]) > abs(wave[:82]).max()).sum()
    line = f"range: {outside} of 18 test targets lie outside the range of the training part"
    assert line in outputs[1].splitlines()


def described(capsys, *options):
    lstm_sine.main([*QUICK, "--no-show", *options])
    return capsys.readouterr().out


@pytest.mark.parametrize("split, length, seq_length", [
    ("random", 60, 1), ("random", 60, 10), ("random", 200, 3), ("time", 60, 10), ("time", 60, 1)])
def test_the_targets_seen_in_training_are_counted_as_a_search_counts_them(
        split, length, seq_length, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = described(capsys, "--split", split, "--length", f"{length}", "--seq-length",
                     f"{seq_length}")
    torch.manual_seed(42)
    train, test = lstm_sine.split_windows(length - seq_length, split)
    seen = {start + k for start in train.tolist() for k in range(seq_length)}
    found = sum(start + seq_length in seen for start in test.tolist())
    assert f" of {seq_length}; {found} of {len(test)} test targets were also in training" in text
    rising = lstm_sine.generate_sequence(length)
    known = sorted(seen | {start + seq_length for start in train.tolist()})
    outside = sum(not rising[known[0]] <= rising[start + seq_length] <= rising[known[-1]]
                  for start in test.tolist())
    assert (f"range: {outside} of {len(test)} test" in text) == (outside > 0)


def test_two_windows_one_to_train_on_and_one_to_test_are_enough(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert " 1 training and 1 test windows of 10;" in described(capsys, "--length", "12")


def test_a_large_model_gets_more_threads_and_the_others_one(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 9)
    threads = [lstm_sine.read_options(options.split()).threads for options in (
        "", "--hidden-size 178", "--hidden-size 176", "--hidden-size 500 --threads 1")]
    assert threads == [1, 9, 1, 1]


def test_on_cuda_the_lstm_keeps_full_float32(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.backends.cudnn.allow_tf32 = True
    lstm_sine.main([*QUICK, "--no-show"])
    assert not torch.backends.cudnn.allow_tf32


def test_auto_takes_cuda_only_where_it_is_available(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # a driver that is too old
    assert lstm_sine.working_device("auto").type == "cpu"


def test_a_figure_that_cannot_be_written_whole_leaves_the_old_one_and_no_part(tmp_path,
                                                                             monkeypatch):
    def half(figure, path, **options):
        path.write_text("half")
        raise OSError("disk full")

    path = tmp_path / "figure.png"
    path.write_text("old")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(OSError, match="disk full"):
        lstm_sine.main([*QUICK, "--no-show", "--output", str(path)])
    assert names(tmp_path) == ["figure.png"] and path.read_text() == "old"


def test_main_twice_in_one_process_leaves_no_figure_open(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    plt.close("all")
    for options in ([], ["--gates"]):
        lstm_sine.main([*QUICK, *options])
        assert plt.get_fignums() == []


def test_where_figures_can_be_shown_all_are_shown_at_once_before_they_are_closed(tmp_path,
                                                                                monkeypatch):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(len(plt.get_fignums())))
    lstm_sine.main(QUICK)
    assert shown == []  # agg is for files
    monkeypatch.setattr(plt, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    lstm_sine.main([*QUICK, "--gates"])
    assert shown == [2] and plt.get_fignums() == []
    lstm_sine.main([*QUICK, "--gates", "--no-show"])
    assert shown == [2]


def test_where_no_font_is_found_a_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lstm_sine, "FONTS", ())
    line = "labels: English, since no font on this machine can draw Chinese ones\n"
    assert line in described(capsys) and line not in described(capsys, "--lang", "en")


def test_run_as_a_program_in_a_notebook_stdout_stays_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    plain = io.StringIO()  # has no reconfigure, as in IDLE and in a notebook
    wrapped = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    for stdout in (plain, wrapped):
        monkeypatch.setattr(sys, "stdout", stdout)
        options = [*QUICK, "--no-show", "--output", "图.png"]
        monkeypatch.setattr(sys, "argv", ["lstm_sine.py", *options])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        assert sys.stdout is stdout and not stdout.closed
    assert "figure: 图.png\n" in plain.getvalue()
    assert wrapped.errors == "strict"
    assert rb"figure: \u56fe.png" in wrapped.buffer.getvalue()
    assert signal.getsignal(signal.SIGTERM) is before


def started(folder, *options, **changes):
    return subprocess.Popen([sys.executable, str(SCRIPT), *options], cwd=folder,
                            env=environment(**changes), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other pipes")
def test_a_reader_who_closes_the_pipe_gets_nothing_on_stderr(tmp_path):
    processes = [started(tmp_path, "--epochs", "1000", PYTHONUNBUFFERED=value)
                 for value in (None, "1")]
    for process in processes:
        process.stdout.readline()
        process.stdout.close()
    for process in processes:
        assert process.stderr.read() == "" and process.wait(timeout=60) == 141


WITH_SLOW_SAVING = """
import sys, time
from matplotlib.figure import Figure
sys.path.insert(0, {folder!r})
import lstm_sine
def slow(figure, path, **options):
    path.write_text("half")
    print("saving", flush=True)
    time.sleep(60)
Figure.savefig = slow
lstm_sine.start()
"""


@pytest.mark.skipif(os.name == "nt", reason="a process cannot be sent such signals on Windows")
def test_ctrl_c_or_sigterm_while_saving_ends_with_one_line_and_leaves_nothing_behind(tmp_path):
    code = WITH_SLOW_SAVING.format(folder=str(SCRIPT.parent))
    processes = {number: subprocess.Popen(
        [sys.executable, "-c", code, *QUICK], cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # as in a terminal
        for number in (signal.SIGINT, signal.SIGTERM)}
    for number, process in processes.items():
        while "saving" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
        assert (process.returncode, error) == (130, "lstm_sine.py: interrupted\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_on_a_terminal_a_long_run_shows_how_long_it_will_take(tmp_path):
    import pty
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--length", "2000", "--epochs", "100"], cwd=tmp_path,
        env=environment(), stdout=subprocess.PIPE, stderr=theirs, stdin=subprocess.DEVNULL,
        text=True)
    os.close(theirs)
    shown = b""
    while b"s left" not in shown:
        shown += os.read(ours, 100)
    process.kill()
    assert re.search(rb" \d+%, \d+ s left", shown)
    assert "left" not in process.communicate(timeout=30)[0]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stderr", [Terminal(), io.StringIO(), None])
def test_progress_passes_all_batches_on_and_counts_them(stderr, monkeypatch):
    clock = iter([100.0, 101.0, 104.0, 104.1, 106.0])  # began, then one look after each batch
    monkeypatch.setattr(lstm_sine.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "stderr", stderr)
    loader = lstm_sine.WithProgress(["a", "b"], 2)
    assert len(loader) == 2 and [*loader, *loader] == ["a", "b", "a", "b"]
    if isinstance(stderr, Terminal):
        assert stderr.getvalue() == " 50%, 4 s left   \r100%, 0 s left   \r"
    elif stderr is not None:
        assert stderr.getvalue() == ""


@pytest.mark.parametrize("error, message", [
    (MemoryError("Unable to allocate 1 PiB"), "not enough memory; take a smaller model"),
    (RuntimeError("[enforce fail] can't allocate memory: you tried"), "not enough memory; take"),
    (RuntimeError("CUDA out of memory. Tried to allocate"), "not enough memory; take"),
    (OSError(28, "No space left on device"), "No space left on device")])
def test_what_goes_wrong_later_ends_in_one_line_and_status_1(error, message, monkeypatch):
    def fail():
        raise error
    monkeypatch.setattr(lstm_sine, "main", fail)
    with pytest.raises(SystemExit) as stopped:
        lstm_sine.start()
    assert stopped.value.code.startswith("lstm_sine.py: error: ")  # printed, with status 1
    assert message in stopped.value.code and "\n" not in stopped.value.code


def test_a_fault_of_the_script_itself_is_not_hidden(monkeypatch):
    def fail():
        raise RuntimeError("shapes cannot be multiplied")
    monkeypatch.setattr(lstm_sine, "main", fail)
    with pytest.raises(RuntimeError, match="multiplied"):
        lstm_sine.start()


def test_help_groups_the_options_and_names_the_article_values():
    text = lstm_sine.command_line().format_help()
    groups = re.findall(r"^(\w+):$", text, flags=re.M)
    assert groups[-5:] == ["data", "windows", "model", "training", "results"] and text.isascii()
    args = lstm_sine.read_options([])
    for option, value in {"length": 1000, "freq": 0.1, "seq-length": 10, "hidden-size": 50,
                          "num-layers": 1, "epochs": 50, "batch-size": 32, "lr": 0.001,
                          "seed": 42}.items():
        assert re.search(rf"--{option} \w+\s[^\[]*\[{value}\]", text), option
        assert getattr(args, option.replace("-", "_")) == value
    assert (args.split, args.schedule, args.subtract_last, args.series, args.lang, args.show) == (
        "random", "constant", False, "sine", "zh", True)
    own = lstm_sine.read_options(["--data", "a.csv"])
    assert (own.split, own.subtract_last, own.standardise) == ("time", True, True)
    for options, scaled in (([], False), (["--subtract-last"], True),
                            (["--series", "mackey-glass"], True)):
        assert lstm_sine.read_options(options).standardise == scaled


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


def test_importing_the_module_changes_and_prints_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], env=environment(PYTHONPATH=str(SCRIPT.parent)),
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_the_suite_raises_no_warning_from_the_articles_own_main_part():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        windows, _ = lstm_sine.create_sequences(lstm_sine.generate_sequence(100), 10)
        assert torch.from_numpy(windows).shape == (90, 10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_the_article_is_repeated_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lstm_sine.main(["--device", "cuda", "--gates", "--forecast", "10", "--no-show"])
    output = capsys.readouterr().out
    assert "device: cuda" in output and len(names(tmp_path)) == 3
    loss = float(re.search(r"Epoch \[10/50\], Loss: (\S+)", output)[1])
    assert loss == pytest.approx(PUBLISHED[10], rel=1e-3)
