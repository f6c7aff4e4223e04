"""Whole runs of `main`: a table of what they print, and what a prediction and a forecast are worth.

The numbers of the table were taken from runs once the other tests had checked each part. They show
any later change of a split, a scale, a model, a baseline or a forecast.
"""
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import run_main
from torch import nn
from torch.utils.data import random_split

import lstm_sine
from lstm_sine import best_and_ties, generate_sequence, mackey_glass

rng = np.random.default_rng(0)
LEVEL = (300 + 40 * np.sin(np.arange(300) / 5) + rng.normal(size=300)).round(4)
WALK = np.cumsum(rng.normal(size=200)).round(4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two series: a noisy wave around 300, and a random walk."""
    path = tmp_path_factory.mktemp("runs")
    rows = [f"day {k},{value}" for k, value in enumerate(LEVEL)]
    (path / "level.csv").write_text("\n".join(["date,level", *rows]), encoding="utf-8")
    np.savetxt(path / "walk.csv", WALK)
    return path


LINEAR = "one step: linear autoregression is the most accurate"
RUNS = {  # options: lines, then one-step errors and free-run errors, the network's first
    "--length 200 --epochs 3 --forecast 20": (
        ["data: 0.1 cycles of a sine, 200 points: first 0, last 0.587785252292, lowest 0, highest "
         "0.587785252292",
         "scale: windows and losses are (value - mean) / scale, mean 0, scale 1",
         "split: random, 152 training and 38 test windows of 10; 36 test targets were seen in "
         "training, 2 are out of range",
         "model: LSTM with 10,600 parameters, and a linear head",
         f"{LINEAR} (38 test windows)",
         "The LSTM has not learned yet: change --lr, raise --epochs, seek outliers",
         "free run: linear autoregression is the most accurate (20 of 20 steps, 21 places, 2 of "
         "them apart); the LSTM is worse than a flat line"],
        [0.299412, 0.00295173, 0.0296466, 0], [0.587257, 0.0293059, 0.0389940, 0]),
    "--length 200 --epochs 3 --subtract-last --hidden-size 7 --num-layers 2": (
        ["model: LSTM with 728 parameters, and a linear head", f"{LINEAR} (38 test windows)"],
        [0.00183264, 0.00295173, 0.0296466, 0], []),
    "--freq 5 --length 300 --split time --epochs 20 --schedule one-cycle --lr 0.02 --seq-length 6 "
    "--batch-size 16 --forecast 50": (
        ["split: time, 235 training and 59 test windows of 6; 0 test targets were seen in "
         "training, 1 are out of range",
         "free run: linear autoregression is the most accurate (50 of 50 steps, 100 places, 3 of "
         "them apart); the LSTM is better than a flat line"],
        [0.00714120, 0.0737578, 0.435731, 0], [0.0696802, 1.09046, 1.08653, 0]),
    "--series mackey-glass --length 300 --split time --epochs 10 --lr 0.01 --forecast 20 --seed 7": (
        ["one step: LSTM is the most accurate (58 test windows)",
         "free run: LSTM is the most accurate (20 of 20 steps, 79 places, 4 of them apart); the "
         "LSTM is better than a flat line"],
        [0.0403204, 0.184224, 0.299059, 0.0847273], [0.103647, 0.324594, 0.364020, 0.151464]),
    "--data {}/level.csv --column level --epochs 10 --forecast 60 --memory --seq-length 31": (
        ["split: time, 215 training and 54 test windows of 31; 0 test targets were seen in "
         "training, 1 are out of range",
         "free run: linear autoregression is the most accurate (27 of 60 steps, 28 places, 2 of "
         "them apart); the LSTM is worse than a flat line"],
        [2.63741, 5.91437, 3.19651, 1.24201], [68.7035, 41.6423, 3.23392, 1.23023]),
    "--data {}/level.csv --column 2 --split random --no-subtract-last --epochs 5 --forecast 5": (
        ["free run: not checked, since no stretch of the series was kept out of training"],
        [18.7633, 6.13591, 43.2278, 0.978505], []),
    "--data {}/walk.csv --epochs 10": (
        ["one step: LSTM and persistence and linear autoregression are too close to call (38 test "
         "windows)"],
        [1.12077, 1.12330, 2.65834, 1.16736], []),
}


@pytest.mark.parametrize("options", RUNS)
def test_a_run_prints_what_it_should(options, folder):
    lines, one_step, free_run = RUNS[options]
    run, printed = run_main(folder, options.replace("{}", str(folder)))
    for line in lines:
        assert line in printed.splitlines()
    table = [re.match(r"(LSTM|persistence|repeated window|linear autoregression) +(\S+) *(\S*)$",
                      line) for line in printed.splitlines()]
    rows = [match.groups() for match in table if match]
    assert [name for name, *_ in rows] == list(run.rules)
    for k, (name, first, second) in enumerate(rows):
        tolerance = 1e-2 if k == 0 else 1e-5
        assert float(first) == pytest.approx(one_step[k], rel=tolerance, abs=1e-11)
        assert float(first) == pytest.approx(run.errors[name], rel=1e-5)
        assert (second != "") == bool(free_run)
        if free_run:
            assert float(second) == pytest.approx(free_run[k], rel=3 * tolerance, abs=1e-11)
    assert printed.count("saved: ") == len(run.figures) + ("--forecast" in options)


@pytest.mark.parametrize("subtract", ["--subtract-last", "--no-subtract-last"])
def test_predictions_and_forecast_are_in_the_units_of_the_data(subtract, folder):
    run, _ = run_main(folder, f"--data {folder}/level.csv --column level --epochs 3 --forecast 7 "
                              f"--seq-length 8 --split random --seed 5 {subtract}")
    torch.manual_seed(5)
    train, test = (np.array(part.indices) for part in random_split(range(292), [233, 59]))
    np.testing.assert_array_equal(run.test, test)
    np.testing.assert_array_equal(run.train, train)
    np.testing.assert_array_equal(run.actual, LEVEL[test + 8])
    np.testing.assert_allclose(run.predictions["persistence"], LEVEL[test + 7])
    np.testing.assert_allclose(run.predictions["repeated window"], LEVEL[test])
    scale = LEVEL[:240].std()
    if subtract == "--subtract-last":
        scale = np.sqrt(np.mean(np.diff(LEVEL[:240]) ** 2))
    scaled = (LEVEL - LEVEL[:240].mean()) / scale
    assert type(run.model) is (lstm_sine.SubtractLast if subtract == "--subtract-last"
                               else lstm_sine.LSTMModel)
    with torch.no_grad():
        windows = torch.FloatTensor(np.stack([scaled[k:k + 8] for k in test])).unsqueeze(-1)
        expected = run.model(windows)[:, 0].double().numpy() * scale + LEVEL[:240].mean()
        last = torch.FloatTensor(scaled[-8:]).view(1, 8, 1)
        following = run.model(last).item() * scale + LEVEL[:240].mean()
    np.testing.assert_allclose(run.predictions["LSTM"], expected, atol=1e-3)
    assert run.forecast[0] == pytest.approx(following, abs=1e-3)
    moves = scaled[train + 8] - scaled[train + 7]
    assert run.persistence_loss == pytest.approx(np.mean(moves ** 2), rel=1e-5)
    saved = np.loadtxt(folder / "figure_forecast.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(saved, np.column_stack([300 + np.arange(7), run.forecast]))


def checked(series, first, T, steps, rules):
    """Free runs by plain loops, from every place the check may take: errors by place and step."""
    places = range(first, len(series) - steps + 1)
    misses = {name: np.empty((len(places), steps)) for name in rules}
    for name, rule in rules.items():
        for row, place in enumerate(places):
            seen = list(series[place - T:place])
            for step in range(steps):
                seen.append(rule(np.array([seen[-T:]]))[0])
                misses[name][row, step] = seen[-1] - series[place + step]
    return misses


@pytest.mark.parametrize("options, first, series", [
    ("--split time --length 100 --forecast 12", 82, generate_sequence(124)),
    ("--length 100 --forecast 12", 100, None),
    ("--series mackey-glass --length 100 --split time --forecast 12", 82, mackey_glass(124))])
def test_the_check_of_a_forecast_is_that_of_plain_loops(options, first, series, folder):
    run, _ = run_main(folder, f"{options} --epochs 1 --hidden-size 3")
    if series is None or "sine" in run.args.series:
        series = generate_sequence(100, future=24)
    scaled = (series - run.data.mean) / run.data.scale
    misses = checked(scaled, first, 10, 12, run.rules)
    places = len(scaled) - first - 12 + 1
    assert (run.check.steps, run.check.places) == (12, places)
    assert run.check.apart == (len(scaled) - first) // 12
    for name, errors in run.check.errors.items():
        expected = np.sqrt(np.mean(misses[name] ** 2, axis=0)) * run.data.scale
        np.testing.assert_allclose(errors, expected, rtol=1e-4, atol=1e-12)


def test_a_long_stretch_is_checked_from_100_places_and_a_short_one_over_half_of_it(folder):
    run, _ = run_main(folder, "--length 1500 --split time --epochs 1 --hidden-size 2 --forecast 2")
    assert (run.check.steps, run.check.places, run.check.apart) == (2, 100, 100)
    np.savetxt(folder / "short.csv", WALK[:60])
    run, _ = run_main(folder, f"--data {folder}/short.csv --epochs 1 --forecast 30")
    assert (len(run.forecast), run.check.steps, run.check.places) == (30, 5, 6)
    np.savetxt(folder / "tiny.csv", WALK[:12])
    run, printed = run_main(folder, f"--data {folder}/tiny.csv --epochs 1 --forecast 3")
    assert run.check.steps == 0 and "free run: not checked" in printed


def test_a_tie_lies_within_two_standard_errors_of_the_mean_difference():
    actual = rng.normal(size=50)
    noise = rng.normal(size=50)
    for factor in (1.01, 1.05, 1.2, 1.5, 3.0):
        predictions = {"LSTM": actual + factor * rng.normal(size=50), "other": actual + noise}
        squares = {name: (values - actual) ** 2 for name, values in predictions.items()}
        best = min(squares, key=lambda name: squares[name].mean())
        worst = "other" if best == "LSTM" else "LSTM"
        difference = squares[worst] - squares[best]
        close = difference.mean() <= 2 * difference.std() / 50**0.5
        assert best_and_ties(predictions, actual) == (["LSTM", "other"] if close else [best])
    assert best_and_ties({"a": actual, "b": actual + 9, "c": actual}, actual) == ["a", "c"]


def test_a_verdict_on_noise_or_walks_hardly_ever_names_the_lstm_alone(folder):
    alone = 0
    for seed in range(6):
        noise = np.random.default_rng(seed).normal(size=200)
        np.savetxt(folder / "noise.csv", noise if seed % 2 else np.cumsum(noise))
        run, _ = run_main(folder, f"--data {folder}/noise.csv --epochs 20 --seed {seed}")
        alone += best_and_ties(run.predictions, run.actual) == ["LSTM"]
    assert alone == 0


def judged(forecast=(), losses=(1,), persistence_loss=1, subtract_last=False, off=1.0):
    """The verdict on made-up predictions: persistence is off by 1, the network by `off`."""
    actual = np.tile([1.0, -1.0], 20)
    predictions = {"LSTM": actual + off * np.tile([0.4, -1.4], 20),
                   "persistence": actual + 1, "linear autoregression": actual + 5}
    errors = {name: np.sqrt(np.mean((p - actual) ** 2)) for name, p in predictions.items()}
    return lstm_sine.verdict(SimpleNamespace(
        args=SimpleNamespace(forecast=len(forecast), subtract_last=subtract_last),
        check=SimpleNamespace(steps=0), network="LSTM", rules=predictions, actual=actual,
        predictions=predictions, errors=errors, losses=losses, persistence_loss=persistence_loss,
        forecast=np.array(forecast), data=SimpleNamespace(series=np.array([0.0, 10.0]))))


def test_the_advice_fits_the_fault():
    assert "not learned" in judged(losses=[11]) and "--subtract-last" not in judged(losses=[11])
    assert "not learned" not in judged(losses=[9])
    assert "The LSTM loses to persistence" in judged(losses=[9], off=2)
    assert "--subtract-last" not in judged(off=2, subtract_last=True)
    assert "--subtract-last" not in judged(off=1.0) + judged(off=0.5)
    assert "too close to call" in judged(off=1.0)
    assert "LSTM is the most accurate (40 test windows)" in judged(off=0.5)


@pytest.mark.parametrize("forecast, leaves", [
    ([5, 14.9], False), ([5, 15.1], True), ([-4.9, 3], False), ([3, -5.1, 3], True)])
def test_a_forecast_that_leaves_the_range_by_half_its_width_is_said(forecast, leaves):
    text = judged(forecast, subtract_last=True)
    assert (f"forecast: {len(forecast)} steps, first {forecast[0]:g}, last {forecast[-1]:g}, lowest "
            f"{min(forecast):g}, highest {max(forecast):g}") in text
    assert ("It leaves the range seen, 0 to 10. Try windows as long as the season or "
            "--no-subtract-last" in text) == leaves
    assert ("the season" in judged(forecast)) == leaves
    assert "--no-subtract-last" not in judged(forecast)


@pytest.mark.parametrize("split, length, T", [("random", 60, 1), ("random", 200, 3), ("time", 60, 5)])
def test_the_targets_seen_in_training_are_counted_as_a_search_counts_them(split, length, T, folder):
    _, printed = run_main(folder, f"--split {split} --length {length} --seq-length {T} --epochs 1")
    torch.manual_seed(42)
    train, test = (list(part.indices) for part in
                   lstm_sine.split_windows(range(length - T), split == "time"))
    seen = {start + k for start in train for k in range(T + 1)}
    found = sum(start + T in seen for start in test)
    beyond = sum(not min(seen) <= start + T <= max(seen) for start in test)  # the sine rises
    assert f"{found} test targets were seen in training, {beyond} are out" in printed


def test_another_layer_is_named_checked_in_a_line_and_not_drawn(folder, monkeypatch):
    class WithGRU(lstm_sine.LSTMModel):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.lstm = nn.GRU(1, 50, batch_first=True)

    monkeypatch.setattr(lstm_sine, "LSTMModel", WithGRU)
    run, printed = run_main(folder, "--length 60 --epochs 1 --memory")
    assert "model: GRU with 7,950 parameters" in printed and "\nGRU   " in printed
    assert printed.count("not a plain LSTM") == 1 and len(run.figures) == 1
    assert printed.index("not a plain LSTM") < printed.index("Epoch")


def test_another_loss_is_that_of_persistence_too(folder, monkeypatch):
    monkeypatch.setattr(nn, "MSELoss", nn.HuberLoss)
    run, _ = run_main(folder, "--length 60 --epochs 1")
    moves = np.diff(generate_sequence(60))[9:][run.train]
    assert run.persistence_loss == pytest.approx(np.mean(moves ** 2) / 2, rel=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_the_article_is_repeated_too(folder):
    run, _ = run_main(folder, "--device cuda --memory --forecast 10 --epochs 10")
    assert run.args.device.type == "cuda"
    assert run.losses[9] == pytest.approx(1.760628e-05, rel=1e-3)
