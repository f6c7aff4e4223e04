"""The program: what it prints, its options, its files, its figures."""

import os
import re
import sys
from subprocess import check_output

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import lstm_sine

QUICK = "--device cpu --length 60 --epochs 1 "


def rms(values, axis=None):
    return np.sqrt(np.mean(np.square(values), axis))


def row(printed, name):
    return next(x for x in printed.splitlines() if x.startswith(name))[26:].split()


def test_a_perfect_persistence_has_no_ratio(capsys):
    lstm_sine.print_table("", {"LSTM": np.ones(9), "persistence": np.zeros(9)}, 3)
    assert re.search(r"LSTM +1 +-\npersistence +0 +-\n$", capsys.readouterr().out)


@pytest.fixture
def wave_run(run_main, wave):
    """The values of the wave, and what a run on it returns, and prints."""
    path, values = wave
    return values, *run_main(f"--data {path} --epochs 2 --forecast 7")


def test_errors_are_in_the_units_of_the_file(wave_run):
    values, result, printed = wave_run
    assert printed.startswith("data: wave.csv, column level, 200 points, first 300,")
    assert isinstance(result.model, lstm_sine.SubtractLast)
    last = rms(np.diff(values)[-38:])  # of the last fifth of 190 windows
    assert row(printed, "persistence") == [f"{last:.6g}", "1"]
    assert row(printed, "one window")[0] == f"{rms(values[162:] - values[152:190]):.6g}"
    network = rms(np.diff(values[:160])) * rms(result.predictions - result.actuals)
    assert float(row(printed, "LSTM")[0]) == pytest.approx(network, rel=1e-3)


def test_free_runs_are_checked_in_the_test_part(wave_run):
    values, _, printed = wave_run
    starts = np.arange(162, 194)  # the first of the values to predict
    flat = [values[starts + k] - values[starts - 1] for k in range(7)]
    free = printed[printed.index("free runs of 7 steps") :]
    assert row(free, "persistence") == [f"{rms(flat):.6g}", "1"]


def test_the_forecasts_of_all_predictors_are_saved(wave_run, tmp_path):
    values, result, printed = wave_run
    saved = tmp_path / "figure_forecast.csv"
    assert saved.with_suffix(".png").exists()
    assert saved.read_text().startswith("step,LSTM,persistence,one window ago,linear")
    table = np.loadtxt(saved, skiprows=1, delimiter=",")
    assert table[:, 0].tolist() == list(range(200, 207))
    assert_allclose(table[:, 2], values[-1])
    mean, scale = values[:160].mean(), rms(np.diff(values[:160]))
    first = lstm_sine.predict(result.model, (values[None, -10:] - mean) / scale)[0]
    assert table[0, 1] == pytest.approx(mean + scale * first, abs=1e-3)
    lowest, highest = min(table[:, 1]), max(table[:, 1])
    ends = f"forecast: first {table[0, 1]:.10g}, last {table[6, 1]:.10g}, "
    assert f"{ends}{lowest:.10g} to {highest:.10g}\n" in printed


def test_an_old_file_stays_if_saving_fails(tmp_path, monkeypatch):
    def write_half(path):
        path.write_text("ne")
        raise OSError("no space left")

    monkeypatch.setattr("tempfile.tempdir", "nowhere")  # it may lie on another disk
    (tmp_path / "figure.png").write_text("old")
    with pytest.raises(OSError, match="no space left"):
        lstm_sine.save(tmp_path / "figure.png", write_half)
    assert (tmp_path / "figure.png").read_text() == "old"
    assert os.listdir(tmp_path) == ["figure.png"]


def test_what_needs_an_lstm_refuses_a_gru(monkeypatch):
    edited = torch.nn.ModuleDict({"lstm": torch.nn.GRU(1, 1)})
    monkeypatch.setattr(lstm_sine, "LSTMModel", lambda: edited)  # as by a reader
    with pytest.raises(SystemExit, match="need an nn.LSTM"):
        lstm_sine.main(["--memory"])


def test_a_loss_that_is_not_finite_ends_the_run(monkeypatch, run_main, tmp_path):
    monkeypatch.setattr("torch.nn.MSELoss", lambda: lambda out, _: out.sum() / 0)
    with pytest.raises(SystemExit, match="error: .* lower the learning rate"):
        run_main(QUICK)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("options", ["--forecast 1", "--data mackey-glass"])
def test_all_but_a_plain_sine_are_split_in_time(options, run_main):
    result, printed = run_main(QUICK + options)
    assert "split: time" in printed
    assert not isinstance(result.model, lstm_sine.SubtractLast)  # as for files


def test_each_option_reaches_the_experiment(run_main):
    result, _ = run_main(
        "--length 200 --freq 3 --seq-length 6 --hidden-size 7 --num-layers 2 --epochs 3 "
        "--batch-size 16 --lr 0.02 --seed 5 --split time --one-cycle --by-hand"
    )
    settings = lstm_sine.Settings(6, 7, 2, 3, 16, 0.02, 5, "cpu", "time", True)
    series = lstm_sine.generate_sequence(200, 3)
    expected = lstm_sine.run_experiment(series, settings, lstm_sine.LSTMByHand)
    assert isinstance(result.model, lstm_sine.LSTMByHand)
    assert result.losses == expected.losses


@pytest.fixture
def drawn(wave):
    """A series, its result and its predictors, as the figures take them."""
    series = lstm_sine.Series("0.1 cycles of a sine", wave[1], wave[1][:0], 300.0, 2.0)
    settings = lstm_sine.Settings(epochs=2, num_layers=2, split="time", device="cpu")
    result = lstm_sine.run_experiment(series.scaled(), settings, lstm_sine.SubtractLast)
    yield series, result, lstm_sine.make_predictors(result)
    plt.close("all")


def shows(ax, label, x, y):
    [line] = [line for line in ax.lines if line.get_label() == label]
    assert_allclose(line.get_xydata(), np.column_stack([x, y]), rtol=1e-5, atol=1e-5)


def test_the_figure_of_the_article_shows_what_was_computed(drawn):
    series = drawn[0]
    settings = lstm_sine.Settings(epochs=2, device="cpu")  # splits at random
    result = lstm_sine.run_experiment(series.scaled(), settings)
    result.model.lstm = torch.nn.GRU(1, 50, batch_first=True)  # as in an exercise
    shown = (series, result, lstm_sine.make_predictors(result))
    article, loss, in_time, errors, weights = lstm_sine.report(*shown).axes
    times, test = result.test + 10, np.sort(result.test)
    predictions = series.unscale(result.predictions)
    shows(article, "Actual Values", range(38), series.values[times])
    shows(article, "Predicted Values", range(38), predictions)
    shows(loss, "training windows", [1, 2], result.losses)
    shows(loss, "test windows", [1, 2], result.test_losses)
    shows(loss, "persistence", [0, 1], [result.persistence_loss] * 2)
    shows(in_time, "series", range(200), series.values)
    shows(in_time, "one step ahead", times, predictions)
    names = ["GRU", "persistence", "one window ago", "linear autoregression"]
    for name, rule in zip(names, shown[2].values(), strict=True):
        misses = series.unscale(rule(result.x[test])) - series.values[test + 10]
        shows(errors, name, test + 10, misses)
    gradient = lstm_sine.input_weights(result.model, result.x[test])
    shows(weights, "GRU, mean gradient", range(-10, 0), gradient)
    linear = lstm_sine.fit_linear(result.x[result.train], result.y[result.train])
    shows(weights, "linear autoregression", range(-10, 0), linear[:10])


def test_the_figure_of_a_forecast_shows_what_was_computed(drawn, capsys):
    series, result, predictors = drawn
    series.future = np.arange(300.0, 330)
    forecasts, figure = lstm_sine.make_forecast(*drawn, 30)
    above, below = figure.axes
    shows(above, "series", range(140, 200), series.values[140:])
    shows(above, "true continuation", range(200, 230), series.future)
    printed = capsys.readouterr().out
    assert printed.startswith("free runs of 19 steps")
    assert row(printed, "one window")[-1] == "-"  # only two runs do not overlap
    error = rms(forecasts["LSTM"] - series.future)
    assert f"RMSE of this forecast: {error:.6g}\n" in printed
    checked = lstm_sine.check_forecast(predictors, result.x[152:], result.y[152:], 30)
    for name, errors in checked.items():
        shows(above, name, range(200, 230), forecasts[name])
        shows(below, name, range(1, 20), series.scale * rms(errors, axis=0))
    edges = above.collections[0].get_paths()[0].vertices  # of the band
    ends = edges[edges[:, 0] == 218, 1]  # at the last step checked
    middle, half = forecasts["LSTM"][18], 2 * series.scale * rms(checked["LSTM"], 0)[18]
    assert_allclose([min(ends), max(ends)], [middle - half, middle + half])


def test_the_figure_of_the_memory_shows_what_was_computed(drawn):
    series, result, _ = drawn
    gates, states, trained, kept, _ = lstm_sine.show_memory(series, result).axes
    x = lstm_sine.to_tensor(series.scaled()[None, -10:] - series.scaled()[-1])
    history = lstm_sine.lstm_by_hand(result.model.lstm, x)[:, 0].detach()  # (6, 10, 50)
    unit = (result.model.fc.weight[0] * history[5, 9]).abs().argmax()  # it adds most
    assert gates.get_title() == f"gates of hidden unit {unit}"
    i, f, g, o, c, h = history[:, :, unit]
    lines = [line.get_ydata() for line in [*gates.lines, *states.lines]]
    assert_allclose(lines, torch.stack([i, f, o, x[0, :, 0], c, h]), atol=1e-5)
    left = trained.images[0].get_array().filled(0)
    assert_allclose(left.sum(axis=0), c, atol=1e-5)
    assert_allclose(kept.images[0].get_array()[:, 9], i * g, atol=1e-5)
    assert trained.images[0].get_clim()[1] == pytest.approx((i * g).abs().max().item())


def test_every_label_has_a_chinese_one(drawn):
    drawn[0].future = np.zeros(3)
    figures = [lstm_sine.report(*drawn), lstm_sine.show_memory(*drawn[:2])]
    figures.append(lstm_sine.make_forecast(*drawn, 3)[1])
    labels = [label for figure in figures for label in figure.findobj(plt.Text)]
    english = "\n".join(label.get_text() for label in labels)
    keys = set(lstm_sine.CHINESE)
    unused = {key for key in keys if not re.search(f"(?m)^{key}$", english)}
    assert unused == {"input x, scaled"}  # it is a change here
    for figure in figures:
        lstm_sine.set_labels(figure, True, ["DejaVu Sans"])  # writes 值 as \u503c
    assert any(label.get_text().startswith("LSTM ± 2 \\u") for label in labels)
    left = {text for text in map(plt.Text.get_text, labels) if "\\u" not in text}
    kept = {"LSTM", "Actual Values", "Predicted Values"}
    assert {text for text in left if re.search("[A-Za-z]", text)} == kept


@pytest.mark.parametrize("font, lines", [("Arial", 1), ("SimHei", 0)])
def test_a_line_says_why_labels_are_english(font, lines, run_main, monkeypatch):
    monkeypatch.setattr("matplotlib.font_manager.get_font_names", lambda: [font])
    _, printed = run_main(QUICK)
    assert printed.count("\nlabels are English, since no Chinese font is in") == lines


def test_all_figures_are_shown_at_once_unless_unwanted(monkeypatch, tmp_path):
    shown = []  # there is no screen, so that showing is only recorded
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: shown.append(len(plt.get_fignums())))
    lstm_sine.main(QUICK.split())  # agg has no windows
    monkeypatch.setattr(plt, "get_backend", lambda: "tkagg")
    lstm_sine.main([*QUICK.split(), "--no-show"])
    lstm_sine.main([*QUICK.split(), "--memory"])
    assert (shown, plt.get_fignums()) == ([2], [])


PROCESS = """
import io, runpy, sys, numpy, torch
from matplotlib import pyplot, rcParams
def state():
    return (torch.get_num_threads(), torch.backends.cudnn.allow_tf32, sys.stdout.errors,
            str(numpy.random.get_state()), dict(rcParams), pyplot.get_fignums())
before = state(), torch.get_rng_state().tolist()
import lstm_sine
assert (state(), torch.get_rng_state().tolist()) == before
sys.argv[1:] = "--data 水位.csv --output 图.SVG --memory --epochs 1".split()
lstm_sine.main()
assert state() == before[0]
runpy.run_path(lstm_sine.__file__, run_name="__main__")
assert state()[:3] == (1, False, "backslashreplace")
sys.stdout = io.StringIO()  # as in IDLE, which cannot be told what to do with signs
runpy.run_path(lstm_sine.__file__, run_name="__main__")
"""


def test_in_a_process_of_its_own_only_the_program_changes_it(tmp_path, wave):
    """It has no home, and a console in ASCII."""
    wave[0].rename(tmp_path / "水位.csv")
    private = ("PYTHON", "MPL", "DISPLAY", "WAYLAND", "HOME", "XDG")
    env = {k: v for k, v in os.environ.items() if not k.startswith(private)}
    env.update(PYTHONPATH=os.pathsep.join(sys.path), PYTHONIOENCODING="ascii:replace")
    env.update(MPLBACKEND="agg", HOME=os.devnull)
    printed = check_output([sys.executable, "-c", PROCESS], cwd=tmp_path, env=env)
    assert rb"data: \u6c34\u4f4d.csv, column level" in printed
    assert "图_memory.SVG" in os.listdir(tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_a_run_agrees_with_the_cpu(run_main):
    on_cpu, _ = run_main("--epochs 10 --memory --forecast 10")
    on_cuda, _ = run_main("--epochs 10 --memory --forecast 10 --device cuda")
    assert next(on_cuda.model.parameters()).is_cuda
    assert on_cuda.losses == pytest.approx(on_cpu.losses, rel=1e-3)
    assert on_cuda.predictions == pytest.approx(on_cpu.predictions, abs=1e-4)
