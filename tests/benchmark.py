"""Speed and memory of the script, in medians of five rounds: a program run by hand."""
import subprocess
import sys
import tempfile
from contextlib import chdir, redirect_stdout
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from timeit import repeat, timeit

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import lstm_sine


def compare(what, limit, one, other):
    """Prints the ratio of the times that two functions take in turn, after a round of each."""
    with redirect_stdout(None):
        ratios = [timeit(one, number=1) / timeit(other, number=1) for _ in range(6)][1:]
    print(f"{what} | {np.median(ratios):.2f} | {limit}", flush=True)


def run_script(copies, options=""):
    """Runs so many copies of the script at once."""
    command = [sys.executable, lstm_sine.__file__, "--no-show", *options.split()]
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(copies)]
    assert not any([process.wait() for process in started])


def loop_windows(data, T):  # as the article does
    starts = range(len(data) - T)
    return np.array([data[i:i + T] for i in starts]), np.array([data[i + T] for i in starts])


print("what | ratio | at most\n---|---|---")
with tempfile.TemporaryDirectory() as folder, chdir(folder):
    # This comes first: a process starts with as much memory as the one that starts it holds.
    run_script(1, "--length 1000000 --freq 1000 --epochs 1 --batch-size 1024")
    print(f"GB that a million points take | {getrusage(RUSAGE_CHILDREN).ru_maxrss / 1e6:.2f} | 1")
    compare("two runs at once / one run", 1.5, lambda: run_script(2), lambda: run_script(1))
    series = lstm_sine.generate_sequence(1_000_000)
    np.savetxt("million.csv", series, "%.6f")
    taken = np.median(repeat(lambda: lstm_sine.read_series("million.csv"), number=1))
    print(f"seconds to read a file of a million lines | {taken:.2f} | 2")
    compare("windows of a million points / by the article's loop", 0.5,
            lambda: lstm_sine.create_sequences(series, 10), lambda: loop_windows(series, 10))
    for units in (50, 1000) if torch.cuda.is_available() else ():
        options = f"--no-show --epochs 5 --hidden-size {units} --device".split()
        compare(f"the experiment on CUDA / on the CPU, {units} units", "",
                lambda: lstm_sine.main([*options, "cuda"]), lambda: lstm_sine.main([*options, "cpu"]))
