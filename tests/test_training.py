"""Training, the equations by hand, the rules and free runs: against PyTorch, loops and algebra."""
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import lstm_sine
from lstm_sine import (LSTMModel, SubtractLast, create_sequences, evaluate_model, free_run,
                       generate_sequence, lstm_by_hand, make_rules, to_tensor, train_model)

PUBLISHED = {10: 1.760628e-05, 20: 1.414804e-06, 30: 1.334899e-06, 40: 1.723756e-06,
             50: 1.003558e-06}  # of the article's listing, with one digit more than it prints
TOLERANCE = 1e-4  # the number of threads alone moves them by 2e-5


def test_the_articles_losses_are_repeated_to_the_digit(article):
    run, printed = article
    assert {epoch: run.losses[epoch - 1] for epoch in PUBLISHED} == pytest.approx(
        PUBLISHED, rel=TOLERANCE)
    for epoch, loss in PUBLISHED.items():
        line, = [row for row in printed.splitlines() if row.startswith(f"Epoch [{epoch}/50]")]
        assert float(line.split("Loss: ")[1]) == pytest.approx(loss, rel=TOLERANCE)
    assert run.errors["LSTM"] == pytest.approx(1.03116e-3, rel=TOLERANCE)
    assert run.errors["persistence"] == pytest.approx(5.838e-4, rel=1e-3)


def small_set(points=120):
    windows, targets = create_sequences(generate_sequence(points, 3), 10)
    return TensorDataset(to_tensor(windows), to_tensor(targets))


def articles_loop(model, loader, optimizer, epochs):
    """The article's training loop, written out anew: returns the mean loss of each epoch."""
    means = []
    for _ in range(epochs):
        losses = []
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = torch.mean((model(inputs) - targets) ** 2)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        means.append(sum(losses) / len(losses))
    return means


def test_training_does_what_the_articles_loop_does(capsys):
    trained = []
    for train in (articles_loop, lambda *args: train_model(*args[:2], nn.MSELoss(), *args[2:])):
        torch.manual_seed(3)
        model = LSTMModel()
        loader = DataLoader(small_set(), batch_size=32, shuffle=True)
        trained.append((train(model, loader, torch.optim.Adam(model.parameters()), 12), model))
    (theirs, their_model), (ours, our_model) = trained
    assert ours == pytest.approx(theirs, rel=1e-6) and ours[-1] < ours[0]
    for name, values in their_model.state_dict().items():
        torch.testing.assert_close(our_model.state_dict()[name], values)
    assert capsys.readouterr().out == (f"Epoch [10/12], Loss: {ours[9]:.6e}\n"
                                       f"Epoch [12/12], Loss: {ours[11]:.6e}\n")


def test_the_scheduler_steps_after_each_batch_from_low_to_the_peak_to_almost_nothing():
    model = LSTMModel(hidden_size=2)
    loader = DataLoader(small_set(), batch_size=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, 3 * len(loader))
    rates = []
    optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
    train_model(model, loader, nn.MSELoss(), optimizer, 3, scheduler)
    assert len(rates) == 12 and rates[0] == pytest.approx(0.02 / 25)
    assert max(rates) > 0.019 and rates[-1] < 1e-3 and rates.index(max(rates)) in (2, 3, 4)


def test_a_loss_that_is_not_finite_stops_the_training():
    model = LSTMModel(hidden_size=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e30)
    with pytest.raises(FloatingPointError, match="the loss of epoch 1 is (nan|inf); lower --lr"):
        train_model(model, DataLoader(small_set()), nn.MSELoss(), optimizer, 3)


def test_evaluation_keeps_the_order_the_weights_and_no_gradient():
    class Echo(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.dropout = nn.Dropout(0.9)  # does nothing where the model is set to evaluate

        def forward(self, x):
            return self.dropout(self.weight * x[:, -1])

    inputs = torch.arange(70.0).view(7, 10, 1)
    loader = DataLoader(TensorDataset(inputs, -inputs[:, 0]), batch_size=3)
    predictions, actuals = evaluate_model(Echo().train(), loader)
    assert predictions[:, 0].tolist() == list(range(9, 70, 10))
    assert actuals[:, 0].tolist() == list(range(0, -70, -10))


@pytest.mark.parametrize("inputs, width, layers", [(1, 50, 1), (1, 6, 3), (4, 5, 2)])
def test_the_equations_by_hand_compute_what_nn_lstm_computes(inputs, width, layers):
    lstm = nn.LSTM(inputs, width, layers, batch_first=True, dtype=torch.float64)
    x = torch.randn(3, 8, inputs, dtype=torch.float64)
    history = lstm_by_hand(lstm, x)
    out, (h, c) = lstm(x)
    torch.testing.assert_close(history["h"], out, rtol=0, atol=1e-12)
    torch.testing.assert_close(history["c"][:, -1], c[-1], rtol=0, atol=1e-12)
    torch.testing.assert_close(history["h"][:, -1], h[-1], rtol=0, atol=1e-12)
    torch.testing.assert_close(history["o"] * history["c"].tanh(), out, rtol=0, atol=1e-12)


def test_the_compare_by_hand_finds_a_difference_and_says_what_it_does_not_fit(capsys, monkeypatch):
    x = torch.randn(4, 5, 1)
    assert lstm_sine.compare_by_hand(nn.LSTM(1, 3, batch_first=True), x) is True
    assert float(capsys.readouterr().out.split()[-1]) < 1e-6
    monkeypatch.setattr(lstm_sine, "lstm_by_hand", lambda lstm, x: {"h": lstm(x)[0] + 0.25})
    lstm_sine.compare_by_hand(nn.LSTM(1, 3, batch_first=True), x)
    assert capsys.readouterr().out.endswith("differ from nn.LSTM by at most 2.5e-01\n")
    for layer in (nn.GRU(1, 3), nn.LSTM(1, 3, bidirectional=True), nn.LSTM(1, 3, bias=False),
                  nn.LSTM(1, 3, proj_size=2)):
        assert lstm_sine.compare_by_hand(layer, x) is False
        line = capsys.readouterr().out
        assert line.count("\n") == 1 and str(layer) in line and "not a plain LSTM" in line


def test_subtract_last_predicts_a_change_whatever_the_level():
    model = SubtractLast(hidden_size=5)
    x = torch.randn(4, 6, 1)
    change = model.fc(model.lstm(x - x[:, 5:])[0][:, -1])
    torch.testing.assert_close(model(x), x[:, 5] + change)
    torch.testing.assert_close(model(x + 8), model(x) + 8, rtol=0, atol=1e-5)


def test_the_rules_are_the_network_two_repetitions_and_least_squares():
    rng = np.random.default_rng(0)
    windows, targets, asked = rng.normal(size=(60, 4)), rng.normal(size=60), rng.normal(size=(3000, 4))
    model = LSTMModel(hidden_size=3)
    rules = make_rules(model, windows, targets)
    assert list(rules) == ["LSTM", "persistence", "repeated window", "linear autoregression"]
    np.testing.assert_array_equal(rules["persistence"](asked), asked[:, 3])
    np.testing.assert_array_equal(rules["repeated window"](asked), asked[:, 0])
    columns = np.array([[*row, 1] for row in windows])
    weights = np.linalg.solve(columns.T @ columns, columns.T @ targets)  # the normal equations
    np.testing.assert_allclose(rules["linear autoregression"](asked),
                               asked @ weights[:4] + weights[4])
    expected = model(torch.tensor(asked, dtype=torch.float32).unsqueeze(-1))[:, 0]
    np.testing.assert_allclose(rules["LSTM"](asked), expected.detach(), atol=1e-6)


def test_another_layer_goes_by_its_own_name():
    model = LSTMModel()
    model.lstm = nn.GRU(1, 50, batch_first=True)
    windows = np.random.default_rng(0).normal(size=(20, 3))
    assert next(iter(make_rules(model, windows, windows[:, 0]))) == "GRU"


def test_a_free_run_reads_its_own_predictions():
    def fibonacci(windows):
        return windows[:, -1] + windows[:, -2]

    assert free_run(fibonacci, np.array([[9, 1, 1], [9, 2, 1]]), 6).tolist() == [
        [2, 3, 5, 8, 13, 21], [3, 4, 7, 11, 18, 29]]
    model = LSTMModel(hidden_size=4)
    windows = np.random.default_rng(1).normal(size=(3, 5))
    ours = free_run(make_rules(model, windows, windows[:, 0])["LSTM"], windows, 4)
    for window, run in zip(windows, ours):
        seen = torch.tensor(window, dtype=torch.float32)
        for value in run:
            predicted = model(seen[-5:].view(1, 5, 1)).item()
            assert value == pytest.approx(predicted, abs=1e-6)
            seen = torch.cat([seen, torch.tensor([predicted])])


def test_on_a_sine_linear_autoregression_is_exact_one_step_and_a_thousand_ahead():
    series = generate_sequence(1000, 10, future=1000)
    windows, targets = create_sequences(series[:1000], 10)
    rule = make_rules(LSTMModel(), windows[:700], targets[:700])["linear autoregression"]
    np.testing.assert_allclose(rule(windows), targets, atol=1e-12)
    np.testing.assert_allclose(free_run(rule, series[None, 990:1000], 1000)[0], series[1000:],
                               atol=1e-10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_training_evaluation_and_free_run_agree_with_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    results = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        model = LSTMModel().to(device)
        loader = DataLoader(Subset(small_set(), range(64)), batch_size=32)
        optimizer = torch.optim.Adam(model.parameters())
        losses = train_model(model, loader, nn.MSELoss(), optimizer, 3)
        window = generate_sequence(10)[None]
        rule = make_rules(model, window, window[:, 0])["LSTM"]
        results.append([losses, *evaluate_model(model, loader), free_run(rule, window, 5)])
    for cpu, cuda in zip(*results):
        np.testing.assert_allclose(cuda, cpu, atol=1e-4)
