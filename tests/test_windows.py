"""Windowing and output shapes: against a loop, PyTorch's own split, and arithmetic."""
import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset, random_split

from lstm_sine import (LSTMModel, SubtractLast, create_sequences, evaluate_model, free_run,
                       generate_sequence, lstm_by_hand, make_rules, split_windows, to_tensor)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_windows_equal_those_of_a_brute_force_loop_for_every_small_length(dtype):
    for length in range(2, 14):
        data = np.random.default_rng(length).integers(-99, 99, length).astype(dtype)
        for seq_length in range(1, length):
            windows, targets = create_sequences(data, seq_length)
            expected = [data[k:k + seq_length] for k in range(length - seq_length)]
            assert windows.dtype == targets.dtype == dtype
            np.testing.assert_array_equal(windows, expected)
            np.testing.assert_array_equal(targets, data[seq_length:])


def test_windows_are_copies_and_one_that_does_not_fit_with_its_target_is_refused():
    data = np.arange(100.0)
    windows, targets = create_sequences(data, 10)
    windows += 1
    assert (windows[:, 0] == np.arange(1, 91)).all()
    targets[:] = 0
    np.testing.assert_array_equal(data, np.arange(100.0))
    for seq_length in (-1, 5, 6):
        with pytest.raises(ValueError):
            create_sequences(np.zeros(5), seq_length)
    assert create_sequences([0, 1, 2], 2)[0].tolist() == [[0, 1]]


@pytest.mark.parametrize("count", [2, 3, 990, 1001])
def test_the_split_is_pytorchs_random_one_or_tests_after_all_training_windows(count):
    data = TensorDataset(torch.arange(count))
    torch.manual_seed(42)
    ours = [list(part.indices) for part in split_windows(data)]
    torch.manual_seed(42)
    theirs = random_split(range(count), [int(0.8 * count), count - int(0.8 * count)])
    assert ours == [list(part.indices) for part in theirs]
    assert sorted(ours[0] + ours[1]) == list(range(count)) and all(ours)
    train, test = split_windows(data, in_time=True)
    assert [*train.indices, *test.indices] == list(range(count))
    assert len(train) == int(0.8 * count) and test[0] == data[len(train)]


def test_the_sine_runs_through_freq_cycles_and_goes_on_where_it_ends():
    series = generate_sequence(1001, 10, future=50)
    np.testing.assert_allclose(series, np.sin(np.pi / 50 * np.arange(1051)), atol=1e-12)
    angles = np.linspace(0, 2 * np.pi * 0.1, 1000)  # the article's own form
    np.testing.assert_array_equal(generate_sequence(1000), np.sin(angles))


@pytest.mark.parametrize("batch, steps, width, layers", [(1, 1, 1, 1), (7, 9, 5, 1), (3, 25, 4, 3)])
@pytest.mark.parametrize("kind", [LSTMModel, SubtractLast])
def test_from_windows_to_outputs_every_shape_is_as_documented(kind, batch, steps, width, layers):
    windows = np.random.default_rng(0).normal(size=(batch, steps))
    model, inputs = kind(hidden_size=width, num_layers=layers), to_tensor(windows)
    assert inputs.shape == (batch, steps, 1) and inputs.dtype == torch.float32
    assert inputs[-1, -1, 0] == pytest.approx(windows[-1, -1])
    assert model(inputs).shape == (batch, 1)
    history = lstm_by_hand(model.lstm, inputs)
    assert list(history) == list("ifgoch")
    assert all(values.shape == (batch, steps, width) for values in history.values())
    predictions, actuals = evaluate_model(model, [(inputs, inputs[:, -1])] * 2)
    assert predictions.shape == actuals.shape == (2 * batch, 1)
    for rule in make_rules(model, windows, windows[:, 0]).values():
        assert rule(windows).shape == (batch,) and rule(windows).dtype == np.float64
        for horizon in (0, 4):
            assert free_run(rule, windows, horizon).shape == (batch, horizon)
    several = LSTMModel(3, width, layers, output_size=2)  # inputs and outputs, as in the article
    assert several(torch.randn(batch, steps, 3)).shape == (batch, 2)


def test_what_main_returns_has_the_documented_shapes(article):
    run, _ = article
    assert run.windows.shape == (990, 10) and run.train.shape == (792,) and len(run.losses) == 50
    assert [values.shape for values in (run.actual, *run.predictions.values())] == [(198,)] * 5
