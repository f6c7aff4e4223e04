"""What the tests share: the script, runs of its `main`, and the article's run, trained once."""
import io
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib
import pytest
import torch

SCRIPT = Path(__file__).resolve().parent.parent / "lstm_sine.py"
sys.path.insert(0, str(SCRIPT.parent))
matplotlib.use("agg")  # no test opens a window
torch.set_num_threads(1)

import lstm_sine


def run_main(folder, options="", *more):
    """Runs `main` with its files in `folder`: returns its namespace, and what it printed."""
    path = Path(folder, "figure.png")
    printed = io.StringIO()
    with redirect_stdout(printed):
        run = lstm_sine.main(["--no-show", "--device", "cpu", "--output", str(path),
                              *options.split(), *more])
    return run, printed.getvalue().replace(str(path.parent) + os.sep, "")


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves figures empty, which saves half a second each: they have tests of their own."""
    monkeypatch.setattr(lstm_sine, "plot_predictions", lambda figure, run: None)


@pytest.fixture(scope="session")
def article(tmp_path_factory):
    """The article's experiment: its namespace and what it printed."""
    return run_main(tmp_path_factory.mktemp("article"), "--memory --lang en")
