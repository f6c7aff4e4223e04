"""Whole runs of `main`: what they print, and what a prediction and a forecast are worth."""
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import run_main
from tables import with_layer
from torch.utils.data import random_split

import lstm_sine
from lstm_sine import best_and_ties, generate_sequence

rng = np.random.default_rng(0)
LEVEL = (300 + 40 * np.sin(np.arange(300) / 5) + rng.normal(size=300)).round(4)
WALK = np.cumsum(rng.normal(size=200)).round(4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a noisy wave around 300, and a series with a swallowed name and a sum."""
    path = tmp_path_factory.mktemp("runs")
    np.savetxt(path / "level.csv", LEVEL)
    (path / "total.csv").write_text("1949\n" + "1000000000.25\n118\n" * 30 + "-999\n40000000000\n")
    return path


RUNS = {  # options: lines, one-step errors, free-run errors (taken from runs, to show changes)
    "--length 200 --epochs 3 --forecast 20 --seed 0 --threads 2": (
        ["device: cpu, CPU threads: 2, seed: 0",
         "The LSTM has not learned yet: change --lr, raise --epochs, find outliers"],
        [0.330993, 0.00296736, 0.0298027, 0], [0.636118, 0.0293059, 0.0389940, 0]),
    "--freq 5 --length 300 --split time --epochs 20 --schedule one-cycle --lr 0.02 --seq-length 6 "
    "--batch-size 16 --forecast 50 --hidden-size 7 --num-layers 2 --subtract-last": (
        ["scale: windows and losses are (value - mean) / scale, mean -3.50285e-05, "
         "scale 0.0742304", "model: LSTM with 728 parameters, and a linear head",
         "one step: linear autoregression is the most accurate (59 test windows)"],
        [0.0107608, 0.0737578, 0.435731, 0], [2.53540, 1.09046, 1.08653, 0]),
    "--series mackey-glass --length 300 --split time --epochs 10 --lr .01 --forecast 20 --seed 7": (
        ["one step: LSTM is the most accurate (58 test windows)",
         "free run: LSTM is the most accurate (20 of 20 steps, 79 places, 4 without overlap); the "
         "LSTM is better than a flat line"],
        [0.0403204, 0.184224, 0.299059, 0.0847273], [0.103647, 0.324594, 0.364020, 0.151464]),
    "--data {}/level.csv --epochs 10 --forecast 60 --memory --seq-length 31": (
        ["free run: linear autoregression is the most accurate (27 of 60 steps, 28 places, 2 "
         "without overlap); the LSTM is worse than a flat line"],
        [2.63741, 5.91437, 3.19651, 1.24201], [68.7035, 41.6423, 3.23392, 1.23023]),
    "--data {}/total.csv --epochs 1": (
        ["data: total.csv, column 1 (no name in the first line), 63 points: first 1949, last "
         "40000000000, lowest -999, highest 40000000000", "one step: LSTM and repeated window and "
         "linear autoregression are too close to call (11 test windows)"],
        [1.21235e10, 1.20943e10, 1.20642e10, 1.20307e10], []),
}


@pytest.mark.parametrize("options", RUNS)
def test_a_run_prints_what_it_should(options, folder):
    lines, one_step, free_run = RUNS[options]
    run, printed = run_main(folder, options.replace("{}", str(folder)))
    assert {"saved: figure.png", *lines} <= set(printed.splitlines())
    assert torch.get_num_threads() == run.args.threads
    rows = re.findall(r"^(LSTM|persistence|repeated window|linear autoregression) +(\S+) *(\S*)$",
                      printed, re.MULTILINE)
    assert [name for name, *_ in rows] == list(run.rules)
    for column, expected in ((1, one_step), (2, free_run)):
        found = [float(row[column]) for row in rows if row[column]]
        assert found[:1] == pytest.approx(expected[:1], rel=2e-2)
        assert found[1:] == pytest.approx(expected[1:], rel=2e-5, abs=1e-11)
    assert [float(row[1]) for row in rows] == pytest.approx([*run.errors.values()], rel=1e-5)
    assert printed.count("saved: ") == len(run.figures) + ("--forecast" in options)


@pytest.mark.parametrize("option", ["--subtract-last", "--no-subtract-last"])
def test_predictions_and_forecast_are_in_the_units_of_the_data(option, folder, undrawn):
    run, printed = run_main(folder, f"--data {folder}/level.csv --epochs 3 --seed 5 "
                                    f"--forecast 7 --seq-length 8 --split random {option}")
    torch.manual_seed(5)
    train, test = (np.array(part.indices) for part in random_split(range(292), [233, 59]))
    np.testing.assert_array_equal(run.test, test)
    np.testing.assert_array_equal(run.train, train)
    np.testing.assert_array_equal(run.actual, LEVEL[test + 8])
    np.testing.assert_allclose(run.predictions["persistence"], LEVEL[test + 7])
    np.testing.assert_allclose(run.predictions["repeated window"], LEVEL[test])
    mean, scale, kind = LEVEL[:240].mean(), LEVEL[:240].std(), lstm_sine.LSTMModel
    if option == "--subtract-last":
        scale, kind = np.sqrt(np.mean(np.diff(LEVEL[:240]) ** 2)), lstm_sine.SubtractLast
    assert type(run.model) is kind
    scaled = (LEVEL - mean) / scale
    windows = torch.FloatTensor(np.stack([scaled[k:k + 8] for k in [*test, 292]])).unsqueeze(-1)
    expected = run.model(windows)[:, 0].detach().double().numpy() * scale + mean
    np.testing.assert_allclose(run.predictions["LSTM"], expected[:-1], atol=1e-3)
    assert run.forecast[0] == pytest.approx(expected[-1], abs=1e-3)
    saved = np.loadtxt(folder / "figure_forecast.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(saved, np.c_[300:307, run.forecast], rtol=1e-11)
    seen = sorted({start + k for start in train for k in range(9)})
    beyond = sum(not min(LEVEL[seen]) <= value <= max(LEVEL[seen]) for value in run.actual)
    found = sum(k + 8 in seen for k in test)
    assert (f"split: random, 233 training and 59 test windows of 8; {found} test targets"
            f" were seen in training, {beyond} are out of range\n") in printed


@pytest.mark.parametrize("options, first", [("--split time", 82), ("--split random", 100)])
def test_the_check_of_a_forecast_is_that_of_plain_loops(options, first, folder, undrawn):
    run, _ = run_main(folder, f"{options} --length 100 --forecast 12 --epochs 1 --hidden-size 3")
    scaled = (generate_sequence(100, future=24) - run.data.mean) / run.data.scale
    places, check = range(first, 124 - 12 + 1), run.check
    assert (check.steps, check.places, check.apart) == (12, len(places), (124 - first) // 12)
    for name, rule in run.rules.items():
        misses = np.empty((len(places), 12))
        for row, place in enumerate(places):
            seen = list(scaled[place - 10:place])
            for _ in range(12):
                seen.append(rule(np.array([seen[-10:]]))[0])
            misses[row] = seen[10:] - scaled[place:place + 12]
        expected = np.sqrt(np.mean(misses ** 2, axis=0)) * run.data.scale
        np.testing.assert_allclose(check.errors[name], expected, rtol=1e-4, atol=1e-12)


def test_a_long_stretch_is_checked_from_100_places_and_a_short_one_over_half_of_it(folder):
    for steps, apart in ((1, 100), (120, 2)):
        run, _ = run_main(folder, f"--length 600 --split time --epochs 1 --forecast {steps}")
        assert (run.check.steps, run.check.places, run.check.apart) == (steps, 100, apart)
    np.savetxt(folder / "short.csv", WALK[:60])
    run, _ = run_main(folder, f"--data {folder}/short.csv --epochs 1 --forecast 30")
    assert (len(run.forecast), run.check.steps, run.check.places) == (30, 5, 6)
    np.savetxt(folder / "tiny.csv", WALK[:12])
    run, printed = run_main(folder, f"--data {folder}/tiny.csv --epochs 1 --forecast 3")
    assert run.check.steps == 0 and "free run: not checked" in printed


def test_a_tie_lies_within_two_standard_errors_of_the_mean_difference():
    actual, noise = rng.normal(size=(2, 50))
    for factor in (1.01, 1.05, 1.2, 1.5, 3.0):
        predictions = {"LSTM": actual + factor * rng.normal(size=50), "other": actual + noise}
        better = noise ** 2 - (predictions["LSTM"] - actual) ** 2
        sure = abs(better.mean()) > 2 * better.std() / 50**0.5
        best = ["LSTM"] if better.mean() > 0 else ["other"]
        assert best_and_ties(predictions, actual) == (best if sure else ["LSTM", "other"])
    assert best_and_ties({"a": actual, "b": actual + 9, "c": actual}, actual) == ["a", "c"]


def judged(run, subtract_last=False, forecast=(), **changes):
    """What is said of the article's run, with some of its results changed."""
    args = SimpleNamespace(forecast=len(forecast), subtract_last=subtract_last)
    changes.update(args=args, forecast=np.array(forecast))
    return lstm_sine.verdict(SimpleNamespace(**{**vars(run), **changes}))


def test_the_advice_fits_the_fault(article):
    run, _ = article
    high, low = 10.1 * run.persistence_loss, 9.9 * run.persistence_loss
    assert "not learned" in judged(run, losses=[low, high])
    assert "not learned" not in judged(run, losses=[high, low])
    assert "The LSTM loses to persistence" in judged(run, losses=[low])
    for text in (judged(run, losses=[high]), judged(run, subtract_last=True),
                 judged(run, errors={**run.errors, "persistence": 2}),
                 judged(run, predictions={"LSTM": run.actual, "persistence": run.actual})):
        assert "--subtract-last" not in text


@pytest.mark.parametrize("forecast, leaves", [
    ([5, 14.9], False), ([5, 15.1], True), ([-4.9, 3], False), ([3, -5.1, 3], True)])
def test_a_forecast_that_leaves_the_range_by_half_its_width_is_reported(article, forecast, leaves):
    changes = dict(forecast=forecast, data=SimpleNamespace(series=np.array([0, 10])))
    text = judged(article[0], subtract_last=True, **changes)
    assert (f"forecast: {len(forecast)} steps, first {forecast[0]:g}, last {forecast[-1]:g}, "
            f"lowest {min(forecast):g}, highest {max(forecast):g}\n") in f"{text}\n"
    advice = "Try windows as long as the season"
    assert (f"{advice} or --no-subtract-last" in text) == leaves
    assert (advice in judged(article[0], **changes)) == leaves
    assert "--no-subtract-last" not in judged(article[0], **changes)


def test_another_layer_is_named_and_not_drawn_and_another_loss_is_used_for_persistence_too(
        folder, monkeypatch):
    monkeypatch.setattr(lstm_sine, "LSTMModel", lambda *_: with_layer("GRU as PyTorch starts it"))
    monkeypatch.setattr(torch.nn, "MSELoss", torch.nn.HuberLoss)
    run, printed = run_main(folder, "--length 60 --epochs 1 --memory")
    assert "model: GRU with 7,950 parameters" in printed and "\nGRU   " in printed
    assert printed.count("not a plain LSTM") == 1 and len(run.figures) == 1
    assert printed.index("not a plain LSTM") < printed.index("Epoch")
    moves = np.diff(generate_sequence(60))[9:][run.train]
    assert run.persistence_loss == pytest.approx(np.mean(moves ** 2) / 2, rel=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_a_run_agrees_with_the_cpu(folder):
    on_cpu, on_cuda = (run_main(folder, f"--device {device} --memory --forecast 10 --epochs 10")[0]
                       for device in ("cpu", "auto"))
    assert next(on_cuda.model.parameters()).device.type == "cuda"
    assert on_cuda.losses == pytest.approx(on_cpu.losses, rel=1e-3)
    assert on_cuda.predictions["LSTM"] == pytest.approx(on_cpu.predictions["LSTM"], abs=1e-4)
    assert on_cuda.forecast == pytest.approx(on_cpu.forecast, abs=1e-3)
