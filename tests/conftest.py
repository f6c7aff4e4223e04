"""What the tests share: the script, runs of its `main`, and the article's run, trained once."""
import io
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib
import pytest
import torch

SCRIPT = Path(__file__).resolve().parent.parent / "lstm_sine.py"
sys.path.insert(0, str(SCRIPT.parent))
matplotlib.use("agg")  # no test opens a window

import lstm_sine

NOT_INHERITED = ("PYTHON", "MPL", "MATPLOTLIB", "OMP_", "MKL_", "DISPLAY", "WAYLAND_DISPLAY")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


def run_main(folder, options=""):
    """Runs `main` with its files in `folder`: returns its namespace, and what it printed."""
    path = Path(folder, "figure.png")
    printed = io.StringIO()
    with redirect_stdout(printed):
        run = lstm_sine.main(["--no-show", "--device", "cpu", "--output", str(path),
                              *options.split()])
    return run, printed.getvalue().replace(str(path.parent) + os.sep, "")


@pytest.fixture(scope="session")
def article(tmp_path_factory):
    """The article's experiment: its namespace and what it printed."""
    return run_main(tmp_path_factory.mktemp("article"), "--memory --lang en")


def environment(**changes):
    """What a process inherits; with agg, since elsewhere than on Linux a window would open."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(NOT_INHERITED)}
    env.update(MPLBACKEND="agg", PYTHONDONTWRITEBYTECODE="1")
    return {k: v for k, v in {**env, **changes}.items() if v is not None}


def start(folder, *options, code=None, stderr=subprocess.PIPE, **changes):
    """Starts the script, or `code` in its place, in a process of its own."""
    command = [sys.executable, *(["-c", code] if code else [str(SCRIPT)]), *options]
    return subprocess.Popen(command, cwd=folder, env=environment(**changes), encoding="utf-8",
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr)
