"""What a result is worth: predictors, errors with their uncertainty, forecasts."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import lstm_sine
from lstm_sine import LSTMModel, compare, create_sequences, format_ratio


def test_a_target_is_seen_in_a_window_or_as_its_target():
    # Window 0 of length 10 ends at point 9, and its target is point 10.
    assert lstm_sine.count_seen(np.array([0]), np.array([0, 1, 9]), 10) == 1


def test_linear_autoregression_solves_the_normal_equations_of_the_training():
    noise = np.random.default_rng(1).normal(size=100)
    result = lstm_sine.run_experiment(noise, lstm_sine.Settings(epochs=1, device="cpu"))
    columns = np.array([[*result.x[k], 1] for k in result.train])
    weights = np.linalg.solve(columns.T @ columns, columns.T @ result.y[result.train])
    rule = lstm_sine.make_predictors(result)["linear autoregression"]
    assert_allclose(rule(result.x), result.x @ weights[:10] + weights[10])


def test_the_weight_of_a_value_is_how_much_it_moves_the_prediction():
    torch.manual_seed(0)
    model = LSTMModel(hidden_size=5).eval()
    windows = np.random.default_rng(0).normal(size=(1500, 6))
    windows[1000:] += 3
    moved = windows + [0, 0, 0.01, 0, 0, 0]
    change = lstm_sine.predict(model, moved) - lstm_sine.predict(model, windows)
    weights = lstm_sine.input_weights(model, windows)  # of every second window
    assert weights[2] == pytest.approx(change[::2].mean() / 0.01, rel=1e-2)


def test_subtract_last_predicts_a_change_of_the_last_value():
    model = lstm_sine.SubtractLast(hidden_size=5)
    x = torch.randn(7, 10, 1)
    out, _ = model.lstm(x - x[:, 9:])
    torch.testing.assert_close(model(x), x[:, 9] + model.fc(out[:, -1]))


def test_the_standard_error_is_that_of_plain_loops():
    squares, extra = np.random.default_rng(0).normal(size=(2, 103)) ** 2
    reference = squares + extra
    ratio, error = compare(squares, reference, 4)
    assert ratio == pytest.approx(np.sqrt(sum(squares) / sum(reference)))
    means = []
    for start, end in [(0, 26), (26, 52), (52, 78), (78, 103)]:
        differences = [squares[k] - ratio**2 * reference[k] for k in range(start, end)]
        means.append(sum(differences) / (end - start))
    variance = sum((value - sum(means) / 4) ** 2 for value in means) / 3 / 4
    assert error == pytest.approx(variance**0.5 / (2 * ratio * reference.mean()))
    assert np.isnan(compare(squares, reference, 2)[1])  # too few blocks
    assert np.isfinite(compare(squares, reference, 3)[1])


def test_a_ratio_has_the_decimals_of_its_error():
    assert format_ratio(1.76633, 0.04123) == "1.77 ± 0.04"
    assert format_ratio(1.00246, 0.00061) == "1.0025 ± 0.0006"
    assert format_ratio(35.2, 12.3) == "35 ± 12"
    assert format_ratio(3.21e9, 2.2e7) == "3.21e+09 ± 2e+07"
    assert format_ratio(2.597e-12, 3.8e-13) == "2.6e-12 ± 4e-13"
    assert format_ratio(0.0123456, 2e-6) == "0.012346 ± 0.000002"
    assert format_ratio(0.5, np.nan) == "0.5 ± -"
    assert format_ratio(10.0, 0.0) == "10 ± 0"


def test_the_check_of_a_forecast_is_that_of_plain_loops():
    series = np.random.default_rng(0).normal(size=40)
    x, y = create_sequences(series, 3)
    rules = {"rule": lambda windows: windows @ [0.5, 0.1, -0.2]}
    errors = lstm_sine.check_forecast(rules, x, y, 5)["rule"]
    assert errors.shape == (33, 5)  # from 33 of the 37 windows, 5 steps are known
    for start in range(33):
        known = list(series[start : start + 3])
        for step in range(5):
            known.append(0.5 * known[-3] + 0.1 * known[-2] - 0.2 * known[-1])
            truth = series[start + 3 + step]
            assert errors[start, step] == pytest.approx(known[-1] - truth)


@pytest.mark.parametrize("n, starts, steps", [(400, 100, 50), (37, 19, 19), (1, 1, 1)])
def test_free_runs_start_at_100_places_or_end_at_half(n, starts, steps):
    x, y = create_sequences(np.arange(n + 3.0), 3)
    rules = {"persistence": lstm_sine.persistence}
    errors = lstm_sine.check_forecast(rules, x, y, horizon=50)["persistence"]
    assert errors.shape == (starts, steps)
    assert (errors == -np.arange(1, steps + 1)).all()  # it goes up by 1 a step


def test_a_free_run_that_explodes_is_held_at_1e50():
    future = lstm_sine.free_run(lambda x: 1e30 * x[:, 0], np.ones((1, 1)), 9)
    assert future.max() == 1e50


def test_what_is_left_adds_up_to_pytorchs_cell_state():
    lstm = torch.nn.LSTM(1, 3, batch_first=True)
    x = torch.randn(1, 8, 1)
    with torch.no_grad():
        i, f, g, *_ = lstm_sine.lstm_by_hand(lstm, x)[:, 0, :, 2].numpy()
        cells = [lstm(x[:, : t + 1])[1][1][0, 0, 2] for t in range(8)]
    left = lstm_sine.what_is_left(i, f, g)
    assert_allclose(np.nansum(left, axis=0), cells, atol=1e-6)
    assert left[2, 5] == pytest.approx(i[2] * g[2] * f[3] * f[4] * f[5])
    assert np.isnan(left[5, :5]).all()
