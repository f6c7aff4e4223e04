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
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lstm_sine import (__file__ as script, LSTMModel, create_sequences, generate_sequence,
                       read_series, to_tensor, train_model)


def compare(what, limit, one, other):
    """Prints the ratio of the times that two functions take in turn, after a round of each."""
    with redirect_stdout(None):
        ratios = [timeit(one, number=1) / timeit(other, number=1) for _ in range(6)][1:]
    print(f"{what} | {np.median(ratios):.2f} | {limit}", flush=True)


def run_script(copies, options=""):
    """Runs so many copies of the script at once."""
    command = [sys.executable, script, "--no-show", *options.split()]
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(copies)]
    assert not any([process.wait() for process in started])


def loop_windows(data, T):  # as the article does
    starts = range(len(data) - T)
    return np.array([data[i:i + T] for i in starts]), np.array([data[i + T] for i in starts])


def prepare(units, batch_size, device="cpu"):
    """Returns what `train_model` takes, for one epoch."""
    windows = map(to_tensor, create_sequences(generate_sequence(5000), 10))
    loader = DataLoader(TensorDataset(*windows), batch_size, shuffle=True)
    model = LSTMModel(1, units).to(device)
    return model, loader, torch.nn.MSELoss(), torch.optim.Adam(model.parameters()), 1


def bare_steps(model, batches, criterion, optimizer, epochs):  # what no training can do without
    for inputs, targets in batches * epochs:
        optimizer.zero_grad()
        criterion(model(inputs), targets).backward()
        optimizer.step()


print("what | ratio | at most\n---|---|---")
with tempfile.TemporaryDirectory() as folder, chdir(folder):
    # This comes first: a process starts with as much memory as the one that starts it holds.
    run_script(1, "--length 1000000 --freq 1000 --epochs 1 --batch-size 1024")
    print(f"GB that a million points take | {getrusage(RUSAGE_CHILDREN).ru_maxrss / 1e6:.2f} | 1")
    compare("two runs at once / one run", 1.5, lambda: run_script(2), lambda: run_script(1))
    series = generate_sequence(1_000_000)
    np.savetxt("million.csv", series, "%.6f")
    taken = np.median(repeat(lambda: read_series("million.csv"), number=1))
    print(f"seconds to read a file of a million lines | {taken:.2f} | 2")
compare("windows of a million points / by the article's loop", 0.5,
        lambda: create_sequences(series, 10), lambda: loop_windows(series, 10))
torch.set_num_threads(1)
torch.backends.cudnn.allow_tf32 = False
model, loader, *rest = prepare(50, 32)
ready = list(loader)
compare("training / bare steps over ready batches", 1.2,
        lambda: train_model(model, loader, *rest), lambda: bare_steps(model, ready, *rest))
if torch.cuda.is_available():
    for units, batch_size in ((50, 32), (512, 256)):
        cuda, cpu = prepare(units, batch_size, "cuda"), prepare(units, batch_size)
        compare(f"training on CUDA / on the CPU, {units} units, batch {batch_size}", "",
                lambda: train_model(*cuda), lambda: train_model(*cpu))
