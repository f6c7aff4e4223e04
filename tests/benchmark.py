"""Speed and memory as ratios of two things measured in turn: run by hand.

    python tests/benchmark.py

Each row is the median over rounds in which the two sides alternate, so that a machine whose speed
drifts does not favour one of them. What the script's own loop is held against is written out here.
"""
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lstm_sine import (LSTMModel, create_sequences, generate_sequence, make_loader, read_series,
                       train_model)


def seconds(action):
    """How long `action` takes, a GPU's work included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def ratio(name, limit, one, other, rounds=9):
    """Prints the median ratio of the times of `one` to `other`, in turn after a warm-up of each."""
    one(), other()
    times = [(seconds(one), seconds(other)) for _ in range(rounds)]
    middle = statistics.median(a / b for a, b in times)
    a, b = (statistics.median(side) for side in zip(*times))
    print(f"| {name} | {middle:.3g} | {limit} | {a:.3g} s against {b:.3g} s |", flush=True)


class Loops:
    """Three ways through the same windows: the script's loader, ready batches, a plain loader."""

    def __init__(self, length, batch_size, device="cpu", hidden_size=50):
        windows, targets = create_sequences(generate_sequence(length), 10)
        numbers = np.arange(int(0.8 * len(windows)))
        self.model = LSTMModel(hidden_size=hidden_size).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.ours = make_loader(windows, targets, numbers, batch_size, shuffle=True)
        dataset = TensorDataset(torch.FloatTensor(windows).view(-1, 10, 1),
                                torch.FloatTensor(targets).view(-1, 1))
        self.plain = DataLoader(Subset(dataset, numbers.tolist()), batch_size, shuffle=True)
        self.ready = [(inputs.to(device), expected.to(device)) for inputs, expected in self.ours]

    def train(self, loader, epochs):
        with redirect_stdout(StringIO()):
            train_model(self.model, loader, nn.MSELoss(), self.optimizer, epochs)

    def bare_steps(self, epochs):
        for _ in range(epochs):
            for inputs, targets in self.ready:
                self.optimizer.zero_grad()
                nn.functional.mse_loss(self.model(inputs), targets).backward()
                self.optimizer.step()


def copies(number):
    """Starts the article's experiment `number` times at once and waits for all."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "lstm_sine.py"), "--no-show"]
        started = [subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
                   for _ in range(number)]
        for process in started:
            assert process.wait() == 0


def loop_windows(data, seq_length):
    """The article's create_sequences."""
    pairs = [(data[i:i + seq_length], data[i + seq_length]) for i in range(len(data) - seq_length)]
    return np.array([window for window, _ in pairs]), np.array([target for _, target in pairs])


def peak(action):
    """The most memory in bytes that `action` held at once, beyond what was there before."""
    tracemalloc.start()
    action()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size


def memory_of_windows():
    """Two rows: what a million windows take, as views and by the article's loop."""
    series = generate_sequence(1_000_000)
    for name, limit, cut in (("views", 1.5, create_sequences), ("the loop", "", loop_windows)):
        used = series.nbytes + peak(lambda: cut(series, 10))
        print(f"| memory of a million windows as {name} against the series "
              f"| {used / series.nbytes:.4g} | {limit} "
              f"| {used / 1e6:.1f} MB against {series.nbytes / 1e6:.1f} MB |", flush=True)


def a_million_lines():
    """One row: reading a file of a million lines against numpy's reader."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "million.csv")
        lines = (f"day {k},{300 + k / 1000:.3f}" for k in range(1_000_000))
        path.write_text("day,level\n" + "\n".join(lines))
        ratio("a file of a million lines against np.loadtxt", "",
              lambda: read_series(path, "level"),
              lambda: np.loadtxt(path, delimiter=",", skiprows=1, usecols=1), rounds=3)


def cpu_against_cuda():
    """A row a size: the same training on the CPU and on the GPU."""
    for hidden_size, batch_size in ((50, 32), (50, 1024), (512, 256)):
        cpu = Loops(5000, batch_size, "cpu", hidden_size)
        cuda = Loops(5000, batch_size, "cuda", hidden_size)
        ratio(f"training on CUDA against the CPU, {hidden_size} units, batch {batch_size}", "",
              lambda: cuda.train(cuda.ours, 1), lambda: cpu.train(cpu.ours, 1), rounds=3)


def main():
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"{platform.machine()}, {torch.get_num_threads()} cores, Python "
          f"{platform.python_version()}, PyTorch {torch.__version__}, GPU: {gpu}\n")
    print("| what against what | ratio | at most | medians |\n|---|---|---|---|")
    ratio("two copies of the experiment at once against one", 1.5, lambda: copies(2),
          lambda: copies(1), rounds=5)
    torch.set_num_threads(1)
    for batch_size, length, epochs in ((32, 1000, 10), (1024, 50_000, 1)):
        loops = Loops(length, batch_size)
        ratio(f"training loop against bare steps, batch {batch_size}", 1.10,
              lambda: loops.train(loops.ours, epochs), lambda: loops.bare_steps(epochs))
        ratio(f"training loop against a plain DataLoader, batch {batch_size}", 1,
              lambda: loops.train(loops.ours, epochs), lambda: loops.train(loops.plain, epochs))
    series = generate_sequence(1_000_000)
    ratio("a million windows as views against the loop", 0.1, lambda: create_sequences(series, 10),
          lambda: loop_windows(series, 10), rounds=3)
    memory_of_windows()
    a_million_lines()
    if torch.cuda.is_available():
        torch.backends.cudnn.allow_tf32 = False
        cpu_against_cuda()


if __name__ == "__main__":
    main()
