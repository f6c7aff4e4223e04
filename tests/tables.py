"""The README's tables, in Markdown: run by hand, for instance `python tests/tables.py steps`."""
import argparse
import copy
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from statistics import geometric_mean, median
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import torch
from conftest import run_main
from torch import nn
from torch.optim.lr_scheduler import LinearLR, OneCycleLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

from lstm_sine import (LSTMModel, SubtractLast, best_and_ties, evaluate_model, free_run,
                       make_rules, rmse, train_model)

LINEAR = "linear autoregression"
WAVE = "--freq 10 --split time --epochs 100"
FALLING = "--schedule one-cycle --lr 0.02"


def trained(options, seed, *more):
    """Returns what `main` returns; its files are not kept."""
    with TemporaryDirectory() as folder:
        return run_main(folder, f"{options} --seed {seed}", *more)[0]


def fit(make_model, loader, seed, epochs=50, lr=0.001, falls=False):
    """Returns a new model, trained; if the rate `falls`, by one cycle."""
    torch.manual_seed(seed)
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr)
    scheduler = OneCycleLR(optimizer, lr, epochs * len(loader)) if falls else None
    train_model(model, loader, nn.MSELoss(), optimizer, epochs, scheduler)
    return model


def tested(model, run, test):
    """Returns a model's predictions on some windows of a run, and the targets, scaled."""
    return evaluate_model(model, [(run.x_tensor[test], run.y_tensor[test])])


def free_run_error(model, run):
    """Returns the RMSE of a model's free run from the end of a generated series."""
    rule = make_rules(model, run.windows, run.targets)["LSTM"]
    forecast = free_run(rule, run.last_window, run.args.forecast)[0]
    return rmse(forecast, run.data.future[:len(forecast)])


def steps(seeds=5):
    """Yields one change at a time, from the article to a forecast of three waves."""
    yield ("| options, and `--forecast 300` | one step: LSTM / persistence, median "
           f"| free run: LSTM, median | worst | {LINEAR}, median |\n|---|---|---|---|---|")
    for options in ("", "--subtract-last", "--freq 10 --split time", WAVE, f"{WAVE} {FALLING}",
                    f"{WAVE} {FALLING} --subtract-last"):
        runs = [trained(f"{options} --forecast 300", seed) for seed in range(seeds)]
        ratios = [run.errors["LSTM"] / run.errors["persistence"] for run in runs]
        lstm = [rmse(run.check.errors["LSTM"], 0) for run in runs]
        linear = [rmse(run.check.errors[LINEAR], 0) for run in runs]
        name = f"`{options}`" if options else "(the article)"
        yield name, median(ratios), median(lstm), max(lstm), median(linear)


def mackey_glass(seeds=3):
    """Yields the LSTM over linear autoregression by window, then other networks in its place."""
    options = f"--series mackey-glass --split time --epochs 100 {FALLING}"
    yield f"| points in a window | LSTM / {LINEAR}, median | worst |\n|---|---|---|"
    for T in (1, 2, 6):
        runs = [trained(f"{options} --seq-length {T}", seed) for seed in range(seeds)]
        ratios = [run.errors["LSTM"] / run.errors[LINEAR] for run in runs]
        yield T, median(ratios), max(ratios)
    yield "\n| windows of 10 | parameters | test RMSE of each seed |\n|---|---|---|"
    run = trained(f"{options} --epochs 1", 0)
    networks = {name: partial(with_layer, name) for name in LAYERS if "as PyTorch" in name}
    networks["perceptron, one hidden layer of 50"] = lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(10, 50), nn.Tanh(), nn.Linear(50, 1))
    for name, make_model in networks.items():
        models = [fit(make_model, run.train_loader, seed, 100, 0.02, True) for seed in range(seeds)]
        errors = [run.data.scale * rmse(*tested(model, run, run.test)) for model in models]
        yield (name, sum(map(torch.numel, models[0].parameters())),
               ", ".join(f"{error:.1e}" for error in errors))


LAYERS = {"RNN as PyTorch starts it": nn.RNN, "RNN, orthogonal start": nn.RNN,
          "GRU as PyTorch starts it": nn.GRU, "LSTM as PyTorch starts it": nn.LSTM,
          "GRU, update gate starts open (bias 3)": nn.GRU,
          "LSTM, forget gate starts open (bias 3)": nn.LSTM}


@torch.no_grad()
def with_layer(kind):
    """Returns the article's model with one of the `LAYERS`, which starts as its name says."""
    model = LSTMModel()
    model.lstm = layer = LAYERS[kind](1, 50, batch_first=True)
    if "orthogonal" in kind:
        nn.init.orthogonal_(layer.weight_hh_l0)
    if "open" in kind:  # the gate that keeps the past, second in PyTorch's r, z, n and i, f, g, o
        layer.bias_ih_l0.split(50)[1].fill_(3)
    return model


def remember(kind, T, steps=600, seed=0):
    """Trains one of the `LAYERS` to return the first of T random numbers; its RMSE on new ones."""
    torch.manual_seed(seed)
    model = with_layer(kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    numbers = torch.randn(64 * steps + 1000, T, 1)
    batches = [(batch, batch[:, 0]) for batch in numbers.split(64)]
    train_model(model, batches[:steps], nn.MSELoss(), optimizer, epochs=1)
    return rmse(*evaluate_model(model, batches[steps:]))


def memory(seeds=3):
    """Yields who remembers the first of T random numbers: the RMSE of each seed."""
    yield "| RMSE, 1 is guessing | T = 20 | T = 50 |\n|---|---|---|"
    for kind in LAYERS:
        yield kind, *[", ".join(f"{remember(kind, T, seed=seed):.2f}" for seed in range(seeds))
                      for T in (20, 50)]


def jitter(run):
    """Trains a copy for 125 batches: RMSE of the last predictions, of their average, between."""
    model, optimizer = copy.deepcopy((run.model, run.optimizer))
    rule, found = make_rules(model, run.windows, run.targets)["LSTM"], []
    # What stands in for a scheduler is called after each batch.
    keep = SimpleNamespace(step=lambda: found.append(rule(run.windows[run.test])))
    train_model(model, run.train_loader, run.criterion, optimizer, 5, keep)
    average = np.mean(found, axis=0)
    return rmse(found[-1], run.actual), rmse(average, run.actual), rmse(np.stack(found), average)


def why(seeds=5):
    """Yields what bears out the README's answers to why: a table for each."""
    yield ("| seed | epochs | RMSE of the last of 125 predictions | of their average "
           "| RMS of their differences from it | one step |\n|---|---|---|---|---|---|")
    for seed in (42, *range(seeds)):
        for epochs in (50, 200):
            run = trained(f"--epochs {epochs}", seed)
            yield seed, epochs, *jitter(run), run.errors["persistence"]
    yield ("\n| seed | free run, lowest of the last ten epochs | highest "
           "| average of the weights after each batch of these | with a rate that falls in them |\n"
           "|---|---|---|---|---|")
    for seed in range(seeds):
        run = trained(f"{WAVE} --epochs 90 --forecast 300", seed)
        falling, its_optimizer = copy.deepcopy((run.model, run.optimizer))
        averaged, errors = AveragedModel(run.model), []
        keep = SimpleNamespace(step=lambda: averaged.update_parameters(run.model))
        for _ in range(10):
            train_model(run.model, run.train_loader, run.criterion, run.optimizer, 1, keep)
            errors.append(free_run_error(run.model, run))
        scheduler = LinearLR(its_optimizer, 1, 0, 10 * len(run.train_loader))
        train_model(falling, run.train_loader, run.criterion, its_optimizer, 10, scheduler)
        yield (seed, min(errors), max(errors), free_run_error(averaged.module, run),
               free_run_error(falling, run))
    yield ("\n| the LSTM predicts | in units of | one step: LSTM / persistence, median "
           "| highest target | highest prediction, median |\n|---|---|---|---|---|")
    for options, unit, other in (("", "1", SubtractLast),
                                 ("--subtract-last", "a typical change", LSTMModel)):
        runs = [trained(options, seed) for seed in range(seeds)]
        others = [fit(other, run.train_loader, run.args.seed) for run in runs]
        for models in ([run.model for run in runs], others):
            ratios, highest = [], []
            for model, run in zip(models, runs):
                found, actual = tested(model, run, run.test)
                ratios.append(run.data.scale * rmse(found, actual) / run.errors["persistence"])
                highest.append(found.max())
            predicted = "a value" if type(models[0]) is LSTMModel else "a change"
            yield predicted, unit, median(ratios), run.targets.max(), median(highest)
    yield ("\n| a fifth of the windows kept out of training | RMSE on it, median | each seed |\n"
           "|---|---|---|")
    run = trained("", 42)
    for name, middle in (("in the middle", 495), ("at the end", 891)):
        distance = abs(np.arange(990) - middle)
        test, train = distance < 99, distance > 110  # which share no point
        data = TensorDataset(run.x_tensor[train], run.y_tensor[train])
        errors = [rmse(*tested(fit(LSTMModel, DataLoader(data, 32, shuffle=True), seed), run, test))
                  for seed in range(seeds)]
        yield name, median(errors), ", ".join(f"{error:.1e}" for error in errors)
    yield "\n| options | length of a wave of the free run, each seed (99.9 is true) |\n|---|---|"
    for options in (f"{WAVE} {FALLING}", f"{WAVE} {FALLING} --subtract-last"):
        lengths = []
        for seed in range(seeds):
            forecast = trained(f"{options} --forecast 3000", seed).forecast
            rises = np.flatnonzero(np.diff(np.sign(forecast - forecast.mean())) > 0)
            lengths.append(f"{np.diff(rises).mean():.1f}")
        yield f"`{options}`", ", ".join(lengths)


def own(files):
    """Yields the LSTM's errors over those of the baselines on each file, then a summary."""
    yield ("| series | points | one step, the LSTM is | free run: LSTM / flat line "
           f"| LSTM / repeated window | LSTM / {LINEAR} |\n|---|---|---|---|---|---|")
    rows, places = [], []
    for file in files:  # a file that `main` refuses ends the table, with its reason
        run = trained("--forecast 24", 42, "--data", file)
        free = {name: rmse(errors, 0) for name, errors in run.check.errors.items()}
        rows.append([free["LSTM"] / free[name] for name in list(free)[1:]])
        best = best_and_ties(run.predictions, run.actual)
        places.append("behind" if "LSTM" not in best else "tied" if len(best) > 1 else "best")
        yield Path(file).stem, len(run.data.series), places[-1], *[f"{r:.2f}" for r in rows[-1]]
    counts = ", ".join(f"{place} {places.count(place)}" for place in ("best", "tied", "behind"))
    below = ", ".join(map(str, np.sum(np.array(rows) < 1, axis=0)))
    means = ", ".join(f"{geometric_mean(column):.2f}" for column in zip(*rows))
    yield f"""
One step, on {len(rows)} series: {counts}.
Free runs, by column: below 1 on {below} series; geometric means {means}."""


TABLES = {"steps": steps, "mackey-glass": mackey_glass, "memory": memory, "why": why}


def main():
    """Prints the table that the command line names, and nothing else on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=(*TABLES, "own"))
    parser.add_argument("files", nargs="*", metavar="FILE", help="for own: series of your own")
    args = parser.parse_args()
    rows = TABLES[args.table]() if args.table in TABLES else own(args.files)
    with redirect_stdout(None):
        for row in rows:
            if not isinstance(row, str):
                cells = [cell if isinstance(cell, (str, int)) else f"{cell:.2g}" for cell in row]
                row = f"| {' | '.join(map(str, cells))} |"
            print(row, file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
