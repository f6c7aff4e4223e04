"""Is run by hand, on Linux: `python tests/benchmark.py series|memory|cost`."""

import sys
from contextlib import chdir, redirect_stdout
from resource import RUSAGE_CHILDREN, getrusage
from subprocess import check_output
from tempfile import TemporaryDirectory
from timeit import repeat

import numpy as np
import torch
from pandas import DataFrame
from statsmodels import datasets

sys.path.insert(0, f"{sys.path[0]}/..")
import lstm_sine as ls


def series():
    """The columns are RMSE / persistence's (1 step, 24), / linear's (1, 24), points."""
    settings = ls.Settings(split="time", device="cpu")
    rows = []
    for key in ["co2", "sunspots", "nile", "elnino", "macrodata", "interest_inflation"]:
        data = getattr(datasets, key).load_pandas().data.interpolate()
        data = data.iloc[:, 1:].stack().to_frame("all") if key == "elnino" else data
        for column in data.columns.drop(["YEAR", "year", "quarter"], errors="ignore"):
            early = data[column][: int(0.8 * len(data))]
            scaled = (data[column] - early.mean()) / ls.root_mean_square(np.diff(early))
            result = ls.run_experiment(scaled, settings, ls.SubtractLast)
            x, y = result.x[result.test], result.y[result.test]
            rules = ls.make_predictors(result)
            one = [ls.root_mean_square(f(x) - y) for f in rules.values()]
            runs = ls.check_forecast(rules, x, y, horizon=24)
            run = [ls.root_mean_square(errors) for errors in runs.values()]
            lstm, last, _, linear = np.transpose([one, run])  # each has both RMSEs
            rows.append([*lstm / last, *lstm / linear, len(data)])
            yield f"{key} {column}", *rows[-1]
    yield "geometric mean", *np.exp(np.log(rows).mean(axis=0))


def memory():
    """The column is the RMSE of the first of 20 random numbers; 1 is guessing."""
    for name, bias in [("RNN", 0), ("GRU", 0), ("LSTM", 0), ("LSTM", 3), ("GRU", 3)]:
        for seed in range(3):
            torch.manual_seed(seed)
            batches = [(x, x[:, 0]) for x in torch.randn(39_400, 20, 1).split(64)]
            model = ls.LSTMModel(hidden_size=50)
            model.lstm = getattr(torch.nn, name)(1, 50, batch_first=True)
            model.lstm.bias_ih_l0.data[50:100] += bias  # of the forget or update gate
            adam = torch.optim.Adam(model.parameters(), lr=0.005)
            ls.train_model(model, batches[:600], torch.nn.MSELoss(), adam, epochs=1)
            guesses, truth = ls.evaluate_model(model, batches[600:])
            yield f"{name} + {bias}, seed {seed}", ls.root_mean_square(guesses - truth)


def cost():
    """The columns are seconds, a median of 3, and GB of the largest process so far."""
    with TemporaryDirectory() as folder, chdir(folder):
        for more in ["", "--epochs 1 --batch-size 1024 --length 1000000 --freq 1000"]:
            command = [sys.executable, ls.__file__, "--no-show", *more.split()]
            took = repeat(lambda c=command: check_output(c), number=1, repeat=3)
            memory = getrusage(RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
            yield f"lstm_sine.py {more}", np.median(took), memory


torch.set_num_threads(1)
measure = {"series": series, "memory": memory, "cost": cost}[sys.argv[1]]
with redirect_stdout(None):
    table = DataFrame(measure()).round(3)
print(measure.__doc__, table.to_string(index=False, header=False), sep="\n")
