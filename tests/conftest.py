"""What the tests share: the script's path, one thread, the article's experiment trained once."""
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

SCRIPT = Path(__file__).resolve().parent.parent / "lstm_sine.py"
sys.path.insert(0, str(SCRIPT.parent))

import lstm_sine


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


def series_tensors(series, seq_length):
    """Windows (n, T, 1) and targets (n, 1) in float32, as the article's main part makes them."""
    windows, targets = lstm_sine.create_sequences(series, seq_length)
    return (torch.FloatTensor(windows).view(-1, seq_length, 1),
            torch.FloatTensor(targets).view(-1, 1))


def train_as_the_article_does(seed=42, freq=0.1, epochs=50):
    """The article's main part with plain loaders: losses, predictions, actuals, model, split."""
    torch.manual_seed(seed)
    dataset = TensorDataset(*series_tensors(lstm_sine.generate_sequence(1000, freq), 10))
    train, test = random_split(dataset, [792, 198])
    model = lstm_sine.LSTMModel()
    losses = lstm_sine.train_model(
        model, DataLoader(train, batch_size=32, shuffle=True), nn.MSELoss(),
        torch.optim.Adam(model.parameters(), lr=0.001), epochs)
    predictions, actuals = lstm_sine.evaluate_model(model, DataLoader(test, batch_size=32))
    return {"losses": losses, "predictions": predictions, "actuals": actuals, "model": model,
            "train": train, "test": test}


@pytest.fixture(scope="session")
def article():
    return train_as_the_article_does()
