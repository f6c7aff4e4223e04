"""Speed and memory as ratios of two things measured in turn: run by hand, `.venv/bin/python tests/benchmark.py`.

Each row is the median over rounds in which the two sides alternate, so that a machine whose speed drifts does not favour
one of them. The training loop is lstm_sine's own, on whole batches; what it is held against is written out here.
"""
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lstm_sine import LSTMModel, create_sequences, generate_sequence, train_model  # noqa: E402


def seconds(action):
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def ratio(name, limit, one, other, rounds=9):
    """Prints the median ratio of the times of `one` to `other`, taken in turn after a warm-up of each."""
    one(), other()
    times = [(seconds(one), seconds(other)) for _ in range(rounds)]
    middle = statistics.median(a / b for a, b in times)
    a, b = (statistics.median(side) for side in zip(*times))
    print(f"| {name} | {middle:.3g} | {limit} | {a:.3g} s against {b:.3g} s |", flush=True)


class Loops:
    """Four ways through one epoch of the same windows: whole batches, batches made beforehand, and plain loaders."""

    def __init__(self, length, batch_size, device="cpu"):
        series = torch.from_numpy(generate_sequence(length).astype(np.float32))
        host = TensorDataset(*(part.unsqueeze(-1) for part in create_sequences(series, 10)))
        data = TensorDataset(*(part.unsqueeze(-1) for part in create_sequences(series.to(device), 10)))
        numbers = torch.arange(int(0.8 * len(host)))
        self.device, self.model = device, LSTMModel().to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.whole = DataLoader(numbers, sampler=BatchSampler(RandomSampler(numbers), batch_size, False), batch_size=None,
                                collate_fn=lambda chosen: data[chosen.to(device, non_blocking=True)])
        self.plain = DataLoader(torch.utils.data.Subset(host, numbers.tolist()), batch_size=batch_size, shuffle=True)
        self.made = list(self.whole)

    def ours(self, loader, epochs):
        train_model(self.model, loader, nn.MSELoss(), self.optimizer, epochs, report=str)

    def floor(self, epochs):
        for _ in range(epochs):
            for inputs, targets in self.made:
                self.optimizer.zero_grad()
                nn.functional.mse_loss(self.model(inputs), targets).backward()
                self.optimizer.step()

    def item_each_step(self, epochs):
        for _ in range(epochs):
            total = 0.0
            for inputs, targets in self.plain:
                self.optimizer.zero_grad()
                loss = nn.functional.mse_loss(self.model(inputs.to(self.device)), targets.to(self.device))
                loss.backward()
                self.optimizer.step()
                total += loss.item()


def copies(number):
    """Starts the article's experiment `number` times at once and waits for all."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "lstm_sine.py"), "--no-show"]
        for process in [subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) for _ in range(number)]:
            assert process.wait() == 0


def loop_windows(data, seq_length):
    """The article's create_sequences."""
    pairs = [(data[i:i + seq_length], data[i + seq_length]) for i in range(len(data) - seq_length)]
    return np.array([x for x, _ in pairs]), np.array([y for _, y in pairs])


def peak(action):
    """The most memory in bytes that `action` held at once, beyond what was there before."""
    tracemalloc.start()
    action()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size


def main():
    print(f"{platform.machine()}, {torch.get_num_threads()} cores, Python {platform.python_version()}, "
          f"PyTorch {torch.__version__}, CUDA: {torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'}\n")
    print("| what against what | ratio | at most | medians |\n|---|---|---|---|")
    ratio("two copies of the experiment at once against one", 1.5, lambda: copies(2), lambda: copies(1), rounds=5)
    torch.set_num_threads(1)
    for batch_size, length, epochs in ((32, 1000, 10), (1024, 50_000, 1)):
        loops = Loops(length, batch_size)
        ratio(f"training loop against bare steps, batch {batch_size}", 1.10,
              lambda: loops.ours(loops.whole, epochs), lambda: loops.floor(epochs))
        ratio(f"training loop against a plain DataLoader, batch {batch_size}", 1,
              lambda: loops.ours(loops.whole, epochs), lambda: loops.ours(loops.plain, epochs))
    series = generate_sequence(1_000_000)
    ratio("a million windows as views against the loop", 0.1, lambda: create_sequences(series, 10),
          lambda: loop_windows(series, 10), rounds=3)
    for name, limit, cut in (("views", 1.5, create_sequences), ("the loop", "", loop_windows)):
        used = series.nbytes + peak(lambda: cut(series, 10))
        print(f"| peak memory with a million windows as {name} against the series | {used / series.nbytes:.4g} | {limit} "
              f"| {used / 1e6:.1f} MB against {series.nbytes / 1e6:.1f} MB |", flush=True)
    if torch.cuda.is_available():
        loops = Loops(1000, 32, "cuda")
        ratio("CUDA: training loop against .item() each step and data on the host", 1,
              lambda: loops.ours(loops.whole, 10), lambda: loops.item_each_step(10))


if __name__ == "__main__":
    main()
