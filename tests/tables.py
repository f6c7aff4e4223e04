"""The README's tables, in Markdown: run by hand, for instance `python tests/tables.py steps`."""
import argparse
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from statistics import geometric_mean, median
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lstm_sine
from lstm_sine import LSTMModel, evaluate_model, rmse, train_model

LINEAR = "linear autoregression"
WAVE = "--freq 10 --split time --epochs 100"
FALLING = "--schedule one-cycle --lr 0.02"


def run_main(options, seed):
    """Runs `main`, with its files in a folder that is not kept; returns its namespace."""
    with tempfile.TemporaryDirectory() as folder:
        return lstm_sine.main([*options, "--seed", str(seed), "--device", "cpu", "--no-show",
                               "--output", f"{folder}/figure.png"])


def train(model, run, epochs, of=None, lr=0.02):
    """Trains a model on a run's batches for the first `epochs` of a one-cycle over `of`."""
    optimizer = torch.optim.Adam(model.parameters(), lr)
    falling = OneCycleLR(optimizer, lr, of * len(run.train_loader)) if of else None
    train_model(model, run.train_loader, run.criterion, optimizer, epochs, falling)
    return optimizer, falling


def steps(seeds):
    """Yields one change at a time, from the article to a forecast of three waves."""
    yield ("| options, and `--forecast 300` | one step: LSTM / persistence, median "
           f"| free run: LSTM, median | worst | {LINEAR}, median |\n|---|---|---|---|---|")
    for options in ("", "--subtract-last", "--freq 10 --split time", WAVE, f"{WAVE} {FALLING}",
                    f"{WAVE} {FALLING} --subtract-last"):
        runs = [run_main([*options.split(), "--forecast", "300"], seed) for seed in range(seeds)]
        ratios = [run.errors["LSTM"] / run.errors["persistence"] for run in runs]
        lstm = [rmse(run.check.errors["LSTM"], 0) for run in runs]
        linear = [rmse(run.check.errors[LINEAR], 0) for run in runs]
        name = f"`{options}`" if options else "(the article)"
        yield name, median(ratios), median(lstm), max(lstm), median(linear)


def mackey_glass(seeds):
    """Yields the LSTM over linear autoregression by window, then other networks in its place."""
    options = f"--series mackey-glass --split time --epochs 100 {FALLING}"
    yield f"| points in a window | LSTM / {LINEAR}, median | worst |\n|---|---|---|"
    for T in (1, 2, 6):
        runs = [run_main(f"{options} --seq-length {T}".split(), seed) for seed in range(seeds)]
        ratios = [run.errors["LSTM"] / run.errors[LINEAR] for run in runs]
        yield T, median(ratios), max(ratios)
    yield "\n| windows of 10 | parameters | test RMSE of each seed |\n|---|---|---|"
    run = run_main([*options.split(), "--epochs", "1"], 0)
    networks = {
        "LSTM": LSTMModel,
        "GRU": lambda: with_layer("GRU as PyTorch starts it"),
        "RNN": lambda: with_layer("RNN as PyTorch starts it"),
        "perceptron, one hidden layer of 50": lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(10, 50), nn.Tanh(), nn.Linear(50, 1))}
    for name, make_model in networks.items():
        errors = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = make_model()
            train(model, run, 100, 100)
            predicted = evaluate_model(model, [(run.x_tensor[run.test], run.y_tensor[run.test])])
            errors.append(f"{run.data.scale * rmse(*predicted):.1e}")
        yield name, sum(map(torch.numel, model.parameters())), ", ".join(errors)


@torch.no_grad()
def new_layer(layer_type, start_hidden=None, open_gate=False, **options):
    """Returns a layer of 50 units as PyTorch starts it, or with other weights to start from."""
    layer = layer_type(1, 50, batch_first=True, **options)
    if start_hidden:
        start_hidden(layer.weight_hh_l0)
        layer.bias_ih_l0.zero_()
        layer.bias_hh_l0.zero_()
    if start_hidden is nn.init.eye_:
        layer.weight_ih_l0.normal_(std=0.001)
    if open_gate:  # the one that keeps the past, second in PyTorch's r, z, n and i, f, g, o
        layer.bias_ih_l0.split(50)[1].fill_(3)
        layer.bias_hh_l0.split(50)[1].zero_()
    return layer


LAYERS = {
    "RNN as PyTorch starts it": lambda: new_layer(nn.RNN),
    "RNN, orthogonal start": lambda: new_layer(nn.RNN, nn.init.orthogonal_),
    "RNN with ReLU, identity start": lambda: new_layer(nn.RNN, nn.init.eye_, nonlinearity="relu"),
    "GRU as PyTorch starts it": lambda: new_layer(nn.GRU),
    "LSTM as PyTorch starts it": lambda: new_layer(nn.LSTM),
    "GRU, update gate starts open (bias 3)": lambda: new_layer(nn.GRU, open_gate=True),
    "LSTM, forget gate starts open (bias 3)": lambda: new_layer(nn.LSTM, open_gate=True)}


def with_layer(name):
    """Returns the article's model with one of the `LAYERS` in place of its LSTM."""
    model = LSTMModel()
    model.lstm = LAYERS[name]()
    return model


def remember(kind, T, steps=600, seed=0):
    """Trains one of the `LAYERS` to return the first of T random numbers; its RMSE on new ones."""
    torch.manual_seed(seed)
    model = with_layer(kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(steps):
        numbers = torch.randn(64, T, 1)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(numbers), numbers[:, 0]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
    numbers = torch.randn(1000, T, 1)
    return rmse(*evaluate_model(model, [(numbers, numbers[:, 0])]))


def memory(seeds):
    """Yields who remembers the first of T random numbers: the RMSE of each seed."""
    yield "| RMSE, 1 is guessing | T = 20 | T = 50 |\n|---|---|---|"
    for kind in LAYERS:
        errors = [[remember(kind, T, seed=seed) for seed in range(seeds)] for T in (20, 50)]
        yield kind, *[", ".join(f"{error:.2f}" for error in cell) for cell in errors]


def why(seeds):
    """Yields what the trembling of the weights costs at a rate that does not fall."""
    yield ("| seed | epochs | RMSE of the last of 125 predictions | of their average "
           "| RMS of their differences from it | one step |\n|---|---|---|---|---|---|")
    for seed in (42, *range(seeds)):
        for epochs in (50, 200):
            run, found = run_main(["--epochs", str(epochs)], seed), []
            rule = run.rules["LSTM"]
            # What stands in for a scheduler is called after each of the 125 batches.
            keep = SimpleNamespace(step=lambda: found.append(rule(run.windows[run.test])))
            train_model(run.model, run.train_loader, run.criterion, run.optimizer, 5, keep)
            average = np.mean(found, axis=0)
            yield (seed, epochs, rmse(found[-1], run.actual), rmse(average, run.actual),
                   rmse(np.stack(found), average), run.errors["persistence"])
    yield ("\n| seed | rate | free run, lowest of the last ten epochs | highest "
           "| with the average of their weights |\n|---|---|---|---|---|")
    run = run_main([*WAVE.split(), "--epochs", "1", "--forecast", "300"], 0)
    for seed in range(seeds):
        for rate, of in (("constant", None), ("one-cycle", 100)):
            torch.manual_seed(seed)
            model, errors = LSTMModel(), []
            averaged = AveragedModel(model)
            trained = train(model, run, 90, of, lr=0.001)
            for _ in range(10):
                train_model(model, run.train_loader, run.criterion, trained[0], 1, trained[1])
                averaged.update_parameters(model)
                errors.append(wave_error(model, run))
            yield seed, rate, min(errors), max(errors), wave_error(averaged.module, run)
    yield "\n| the LSTM reads | in units of | one step: LSTM / persistence, median |\n|---|---|---|"
    for options, unit in (("", "1"), ("--subtract-last", "a typical change")):
        run = run_main([*options.split(), "--epochs", "1"], 42)
        for model_class in (LSTMModel, lstm_sine.SubtractLast):
            errors = []
            for seed in range(seeds):
                torch.manual_seed(seed)
                model = model_class()
                train(model, run, 50, lr=0.001)
                rule = lstm_sine.make_rules(model, run.windows, run.targets)["LSTM"]
                errors.append(rmse(rule(run.windows[run.test]), run.targets[run.test]))
            yield (model_class.__name__, unit,
                   median(errors) * run.data.scale / run.errors["persistence"])


def wave_error(model, run):
    """Returns the RMSE of a free run of 300 steps from the end of a sine."""
    rule = lstm_sine.make_rules(model, run.windows, run.targets)["LSTM"]
    forecast = lstm_sine.free_run(rule, run.last_window, 300)
    return rmse(forecast[0], run.data.future[:300])


def own(files, season):
    """Yields the LSTM's errors over those of the baselines on each file, then a summary."""
    yield (f"| series | points | one step: LSTM / persistence | LSTM / {LINEAR} "
           f"| free run: LSTM / flat line | LSTM / repeated window | LSTM / {LINEAR} |\n"
           "|---|---|---|---|---|---|---|")
    rows, places = [], []
    for file in files:  # a file that `main` refuses ends the table, with its reason
        run = run_main(["--data", file, "--forecast", "24", "--seq-length", season], seed=42)
        free = {name: rmse(errors, 0) for name, errors in run.check.errors.items()}
        ratios = [run.errors["LSTM"] / run.errors[name] for name in ("persistence", LINEAR)]
        ratios += [free["LSTM"] / free[name] for name in ("persistence", "repeated window", LINEAR)]
        best = lstm_sine.best_and_ties(run.predictions, run.actual)
        places.append("behind" if "LSTM" not in best else "tied" if len(best) > 1 else "alone")
        rows.append(ratios)
        yield Path(file).stem, len(run.data.series), *[f"{ratio:.2f}" for ratio in ratios]
    counts = ", ".join(f"{place} {places.count(place)}" for place in ("alone", "tied", "behind"))
    below = ", ".join(map(str, np.sum(np.array(rows) < 1, axis=0)))
    means = ", ".join(f"{geometric_mean(column):.2f}" for column in zip(*rows))
    yield f"""
One step, of {len(rows)} series the LSTM is the most accurate on: {counts}.
By column, it is below the baseline on {below} series; geometric means: {means}."""


def main():
    """Prints the table that the command line names, and nothing else on stdout."""
    tables = {"steps": steps, "mackey-glass": mackey_glass, "memory": memory, "why": why}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=(*tables, "own"))
    parser.add_argument("files", nargs="*", metavar="FILE", help="for own: series of your own")
    parser.add_argument("--seeds", type=int, help="how many, from 0 on [5 for steps, else 3]")
    parser.add_argument("--season", default="10", help="for own: points in a window [10]")
    args = parser.parse_intermixed_args()
    seeds = args.seeds or (5 if args.table == "steps" else 3)
    rows = own(args.files, args.season) if args.table == "own" else tables[args.table](seeds)
    torch.set_num_threads(1)
    with redirect_stdout(None):
        for row in rows:
            if not isinstance(row, str):
                cells = [cell if isinstance(cell, (str, int)) else f"{cell:.2g}" for cell in row]
                row = f"| {' | '.join(map(str, cells))} |"
            print(row, file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
