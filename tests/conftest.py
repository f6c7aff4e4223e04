"""What the tests share."""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
matplotlib.use("agg")  # no test opens a window
torch.set_num_threads(1)

import lstm_sine


@pytest.fixture(scope="session")
def article():
    """The result of the article's experiment."""
    series = lstm_sine.generate_sequence(1000)
    return lstm_sine.run_experiment(series, lstm_sine.Settings(device="cpu"))


@pytest.fixture
def run_main(tmp_path, capsys):
    """A function that runs `main`, and returns its result and what it printed."""

    def run(options):
        fixed = f"--no-show --device cpu --output {tmp_path}/figure.png {options}"
        return lstm_sine.main(fixed.split()), capsys.readouterr().out

    return run


@pytest.fixture
def wave(tmp_path):
    """The path of a wave around 300, and its values."""
    values = 300 + 5 * np.sin(np.arange(200) / 5)
    np.savetxt(tmp_path / "wave.csv", values, header="level", comments="")
    return tmp_path / "wave.csv", values
