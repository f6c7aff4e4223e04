"""Windows, their split, and the shapes that go through the network."""

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import lstm_sine
from lstm_sine import LSTMByHand, LSTMModel, SubtractLast, create_sequences


def test_a_window_is_followed_by_its_target():
    x, y = create_sequences([10, 11, 12, 13, 14], 3)
    assert x.tolist() == [[10, 11, 12], [11, 12, 13]]
    assert y.tolist() == [13, 14]


@pytest.mark.parametrize("length", range(2, 14))
def test_all_windows_are_those_of_a_plain_loop(length):
    data = np.random.default_rng(length).normal(size=length).tolist()
    for seq_length in range(1, length):
        x, y = create_sequences(data, seq_length)
        places = range(length - seq_length)
        assert x.tolist() == [[data[k + j] for j in range(seq_length)] for k in places]
        assert y.tolist() == [data[k + seq_length] for k in places]


def test_a_split_in_time_tests_on_the_end():
    train, test = lstm_sine.split_windows(TensorDataset(torch.arange(10)), "time")
    assert list(train.indices) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert list(test.indices) == [8, 9]


@pytest.mark.parametrize("model_class", [LSTMModel, LSTMByHand, SubtractLast])
@pytest.mark.parametrize("batch, steps, layers", [(1, 1, 1), (32, 10, 1), (3, 25, 2)])
def test_a_model_returns_one_value_for_each_window(model_class, batch, steps, layers):
    """五: 可以通过修改参数如seq_length、hidden_size、num_layers等来调整模型"""
    inputs = lstm_sine.to_tensor(np.ones((batch, steps)))
    assert inputs.shape == (batch, steps, 1)
    model = model_class(hidden_size=5, num_layers=layers)
    assert model(inputs).shape == (batch, 1)


def test_the_result_of_the_article_has_the_documented_shapes(article):
    assert (article.x.shape, article.y.shape) == ((990, 10), (990,))
    assert (article.train.shape, article.test.shape) == ((792,), (198,))
    assert len(article.losses) == len(article.test_losses) == 50
    assert article.predictions.shape == article.actuals.shape == (198,)
