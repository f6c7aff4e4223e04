"""Model, training, evaluation, baselines and forecast, against PyTorch, formulas and the article's numbers."""
import copy
import math

import numpy as np
import pytest
import torch
from conftest import series_tensors, train_as_the_article_does
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from lstm_sine import (LSTMModel, baselines, create_sequences, evaluate_model, forecast, generate_sequence, lstm_by_hand,
                       plot_gates, plot_predictions, rmse, split_windows, train_model)

# The article's listing at full precision, on PyTorch 2.4.0 and 2.13.0. Another processor, number of threads or LSTM
# kernel moved these by 2e-5 at most. Of the breaks tried, the mildest (Adam's eps doubled) moves each of them by 2e-3 or
# more; a rate of 0.00101, a lost last batch or seed 43 move some by 8 % or more. The tolerance lies between.
PUBLISHED = {10: 1.760628e-05, 20: 1.414804e-06, 30: 1.334899e-06, 40: 1.723756e-06, 50: 1.003558e-06}
TOLERANCE = 1e-3


def test_training_gives_the_losses_of_the_article(article):
    assert {epoch: article["losses"][epoch - 1] for epoch in PUBLISHED} == pytest.approx(PUBLISHED, rel=TOLERANCE)


def test_the_test_error_is_that_of_the_article(article):
    assert article["predictions"].shape == article["actuals"].shape == (198, 1)
    assert rmse(article["predictions"], article["actuals"]) == pytest.approx(1.03116e-3, rel=TOLERANCE)


def test_the_same_seed_gives_the_same_result_and_another_seed_another():
    first, again, other = (train_as_the_article_does(seed, epochs=3)["losses"] for seed in (1, 1, 2))
    assert first == again and first != pytest.approx(other, rel=TOLERANCE)


def test_whole_batches_are_the_batches_of_a_plain_loader():
    dataset = TensorDataset(torch.arange(100))
    torch.manual_seed(3)
    plain = [batch.tolist() for _ in range(2) for batch, in DataLoader(dataset, batch_size=32, shuffle=True)]
    torch.manual_seed(3)
    loader = DataLoader(torch.arange(100), sampler=BatchSampler(RandomSampler(range(100)), 32, False), batch_size=None,
                        collate_fn=lambda numbers: dataset[numbers])
    assert [batch.tolist() for _ in range(2) for batch, in loader] == plain


@pytest.mark.parametrize("layers, width", [(1, 1), (1, 50), (2, 8), (3, 5)])
@pytest.mark.parametrize("batch", [1, 2, 33])
def test_the_model_maps_a_batch_of_windows_to_one_value_each(layers, width, batch):
    model = LSTMModel(hidden_size=width, num_layers=layers)
    for seq_length in (1, 10):
        assert model(torch.zeros(batch, seq_length, 1)).shape == (batch, 1)


def test_the_model_is_an_lstm_from_zero_states_and_a_linear_head_on_its_last_step():
    torch.manual_seed(0)
    model, x = LSTMModel(2, 7, 2, 3), torch.randn(4, 6, 2)
    zeros = torch.zeros(2, 4, 7)
    _, (h, _) = model.lstm(x, (zeros, zeros))
    torch.testing.assert_close(model(x), h[-1] @ model.fc.weight.T + model.fc.bias)


@pytest.mark.parametrize("inputs, width, layers, outputs", [(1, 50, 1, 1), (3, 8, 2, 2), (1, 16, 3, 1)])
def test_the_parameters_are_as_many_as_the_formula_says(inputs, width, layers, outputs):
    model = LSTMModel(inputs, width, layers, outputs)
    recurrent = sum(4 * (width * (inputs if k == 0 else width) + width * width + 2 * width) for k in range(layers))
    assert sum(p.numel() for p in model.parameters()) == recurrent + width * outputs + outputs


def plain_loop(model, loader, optimizer, epochs, scheduler=None):
    """The article's training loop in its shortest form: an independent check of train_model."""
    losses = []
    for _ in range(epochs):
        total = 0.0
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
            total += loss.item()
        losses.append(total / len(loader))
    return losses


@pytest.mark.parametrize("schedule", ["constant", "one-cycle"])
def test_training_is_the_plain_loop_with_the_schedule_stepped_a_batch(schedule):
    torch.manual_seed(0)
    batches = list(DataLoader(TensorDataset(*series_tensors(generate_sequence(200, 2), 5)), batch_size=50))
    mine = LSTMModel(hidden_size=6)
    plain = copy.deepcopy(mine)
    optimizer, scheduler = torch.optim.Adam(plain.parameters(), lr=0.02), None
    if schedule == "one-cycle":
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, epochs=3, steps_per_epoch=len(batches))
    expected = plain_loop(plain, batches, optimizer, 3, scheduler)
    mine.eval()
    losses = train_model(mine, batches, nn.MSELoss(), torch.optim.Adam(mine.parameters(), lr=0.02), 3, schedule, str)
    assert losses == pytest.approx(expected, rel=1e-6)
    assert mine.training


def test_every_tenth_epoch_and_the_last_are_reported(capsys):
    loader = DataLoader(TensorDataset(*series_tensors(generate_sequence(20), 5)), batch_size=50)
    model = LSTMModel(hidden_size=2)
    losses = train_model(model, loader, nn.MSELoss(), torch.optim.Adam(model.parameters()), 23)
    expected = [f"Epoch [{epoch}/23], Loss: {losses[epoch - 1]:.6e}" for epoch in (10, 20, 23)]
    assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_training_at_its_epoch(bad):
    model, epochs_seen = LSTMModel(hidden_size=2), []

    def criterion(outputs, targets):
        epochs_seen.append(1)
        return nn.functional.mse_loss(outputs, targets) * (bad if len(epochs_seen) == 2 else 1)

    with pytest.raises(FloatingPointError, match="epoch 2; try a lower learning rate"):
        train_model(model, [(torch.zeros(3, 4, 1), torch.ones(3, 1))], criterion, torch.optim.Adam(model.parameters()), 5)
    assert len(epochs_seen) == 2


def test_evaluation_keeps_the_order_of_the_loader_and_changes_no_weight():
    torch.manual_seed(0)
    model, (x, y) = LSTMModel(), series_tensors(generate_sequence(100), 10)
    before = copy.deepcopy(model.state_dict())
    predictions, actuals = evaluate_model(model, DataLoader(TensorDataset(x, y), batch_size=7))
    np.testing.assert_array_equal(actuals, y)
    np.testing.assert_allclose(predictions, model(x).detach(), atol=1e-6)
    assert not model.training and all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_persistence_errs_by_the_slope_on_a_line():
    x, y = create_sequences(0.25 * np.arange(50) + 3, 4)
    assert rmse(baselines(x, y, np.arange(30))[0], y) == pytest.approx(0.25, rel=1e-12)


@pytest.mark.parametrize("freq, seq_length", [(0.1, 10), (10, 2), (10, 6), (37, 20)])
def test_least_squares_is_exact_on_a_sine(freq, seq_length):
    x, y = create_sequences(generate_sequence(1000, freq) + 5, seq_length)
    train, test = split_windows(len(x), "time")
    assert rmse(baselines(x, y, train)[1][test], y[test]) < 1e-10


def test_least_squares_finds_the_two_terms_of_the_recurrence():
    series = generate_sequence(1000, 10)
    w = 2 * np.pi * 10 / 999
    x, y = create_sequences(series, 2)
    np.testing.assert_allclose(2 * np.cos(w) * x[:, 1] - x[:, 0], y, atol=1e-12)
    np.testing.assert_allclose(baselines(x, y, np.arange(500))[1], 2 * np.cos(w) * x[:, 1] - x[:, 0], atol=1e-10)


def test_least_squares_learns_from_the_training_windows_alone():
    series = np.random.default_rng(0).normal(size=200)
    spoilt = series.copy()
    spoilt[150:] += 9
    results = [baselines(*create_sequences(data, 5), np.arange(100))[1][:100] for data in (series, spoilt)]
    np.testing.assert_array_equal(*results)


class Recurrence(nn.Module):
    """The exact next value of a sine of w radians a step."""

    def __init__(self, w):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([-1, 2 * math.cos(w)], dtype=torch.float64))

    def forward(self, x):
        return x[:, -2:, 0] @ self.weights[:, None]


def test_the_forecast_of_the_exact_recurrence_follows_the_sine():
    series = generate_sequence(2000, 20)
    model = Recurrence(2 * np.pi * 20 / 1999)
    future = forecast(model, series[990:1000], 1000)
    assert future.shape == (1000,)
    np.testing.assert_allclose(future, series[1000:], atol=1e-8)


def test_one_step_of_the_forecast_is_the_evaluation_of_that_window(article):
    x, y = series_tensors(generate_sequence(1000), 10)
    expected, _ = evaluate_model(article["model"], [(x[-1:], y[-1:])])
    assert forecast(article["model"], x[-1, :, 0], 1) == pytest.approx(expected[0], abs=1e-7)


@pytest.mark.parametrize("training", [True, False])
def test_the_forecast_leaves_mode_weights_and_window_as_they_were(training):
    model, window = LSTMModel(hidden_size=3).train(training), np.ones(4, dtype=np.float32)
    before = copy.deepcopy(model.state_dict())
    forecast(model, window, 5)
    assert model.training is training and np.all(window == 1)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_half_the_epochs_of_the_whole_wave_recipe_beat_persistence_twentyfold():
    torch.manual_seed(42)
    x, y = series_tensors(generate_sequence(1000, 10), 6)
    train, test = split_windows(len(x), "time")
    loader = DataLoader(TensorDataset(x[train], y[train]), batch_size=32, shuffle=True)
    model = LSTMModel()
    train_model(model, loader, nn.MSELoss(), torch.optim.Adam(model.parameters(), lr=0.02), 50, "one-cycle", str)
    predictions, actuals = evaluate_model(model, [(x[test], y[test])])
    assert rmse(predictions, actuals) < rmse(x[test, -1].numpy(), actuals) / 20


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("inputs, width, layers, batch, length", [(1, 50, 1, 32, 10), (3, 1, 2, 1, 1), (2, 16, 3, 5, 40)])
def test_the_lstm_by_hand_is_that_of_pytorch(inputs, width, layers, batch, length, dtype, tolerance):
    torch.manual_seed(0)
    lstm = nn.LSTM(inputs, width, layers, batch_first=True, dtype=dtype)
    x = torch.randn(batch, length, inputs, dtype=dtype)
    gates = lstm_by_hand(lstm, x)
    out, (h, c) = lstm(x)
    assert list(gates) == list("ifgoch") and all(v.shape == (layers, batch, length, width) for v in gates.values())
    for mine, theirs in ((gates["h"][-1], out), (gates["h"][:, :, -1], h), (gates["c"][:, :, -1], c)):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance)


def test_the_predictions_figure_shows_the_article_view_the_series_and_the_errors():
    series, at = generate_sequence(100, 2), np.array([70, 90, 80])
    figure = plot_predictions(series, at, series[at] + 0.5, future=np.zeros(20), truth=np.ones(20))
    article, wave, error = figure.axes
    assert (article.get_title(), article.get_xlabel(), article.get_ylabel()) == ("LSTM prediction results", "sample", "value")
    drawn = {panel: {line.get_label(): line for line in panel.lines} for panel in figure.axes}
    np.testing.assert_array_equal(drawn[article]["Actual Values"].get_ydata(), series[at])
    np.testing.assert_array_equal(drawn[article]["Predicted Values"].get_ydata(), series[at] + 0.5)
    np.testing.assert_array_equal(drawn[wave]["one-step prediction"].get_xdata(), at)
    np.testing.assert_array_equal(drawn[wave]["free-running forecast"].get_xdata(), np.arange(100, 120))
    np.testing.assert_allclose(drawn[error]["LSTM"].get_ydata(), 0.5)
    np.testing.assert_allclose(drawn[error]["persistence"].get_ydata(), abs(series[at] - series[at - 1]))
    np.testing.assert_allclose(drawn[error]["free-running forecast"].get_ydata(), 1)
    assert error.get_yscale() == "log"


def test_of_a_long_series_the_last_steps_are_drawn():
    series = generate_sequence(2500, 25)
    figure = plot_predictions(series, np.arange(100, 2500), series[100:])
    lines = {line.get_label(): line.get_xdata() for line in figure.axes[1].lines}
    assert (lines["one-step prediction"][0], lines["one-step prediction"][-1]) == (500, 2499)
    assert (lines["training part"][0], lines["training part"][-1]) == (500, 2499)


def test_the_gates_figure_has_a_map_of_all_units_for_each_letter():
    gates = {letter: np.random.default_rng(0).random((30, 8)) for letter in "ifgoch"}
    inputs = np.arange(30.0)
    gates["i"][:, 3], gates["i"][:, 5] = 0.5 + inputs / 60, 0.5 - inputs / 60
    panels = [axes for axes in plot_gates(inputs, gates).axes if axes.images]
    assert [panel.get_title(loc="left")[0] for panel in panels] == list("ifgoch")
    drawn = panels[0].images[0].get_array()
    assert drawn.shape == (8, 30)
    np.testing.assert_array_equal(drawn[0], gates["i"][:, 3])   # rises with the input: on top
    np.testing.assert_array_equal(drawn[-1], gates["i"][:, 5])  # falls: at the bottom


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_training_evaluation_and_forecast_agree_with_the_cpu():
    results = {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        model = LSTMModel().to(device)
        loader = [(part.to(device), target.to(device)) for part, target in
                  DataLoader(TensorDataset(*series_tensors(generate_sequence(300, 3), 10)), batch_size=32)]
        train_model(model, loader, nn.MSELoss(), torch.optim.Adam(model.parameters()), 3, report=str)
        results[device] = (*evaluate_model(model, loader), forecast(model, generate_sequence(10), 5))
    for cpu, cuda in zip(results["cpu"], results["cuda"]):
        np.testing.assert_allclose(cuda, cpu, atol=1e-4)
