"""The README's tables, in Markdown: a program run by hand.

    python tests/tables.py memory         who remembers the first of T random numbers
    python tests/tables.py mackey-glass   the LSTM beside linear autoregression and other networks
    python tests/tables.py steps          one change at a time, up to a free run over ten cycles
    python tests/tables.py own FILE...    series of your own, with --data and nothing else
"""
import argparse
import io
import re
import statistics
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lstm_sine


def print_row(*cells):
    """Prints one row of a Markdown table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def print_head(*cells):
    """Prints the head of a Markdown table and the rule below it."""
    print_row(*cells)
    print_row(*["---"] * len(cells))


def model_around(layer):
    """Returns the article's model with another recurrent layer in place of its LSTM."""
    model = lstm_sine.LSTMModel()
    model.lstm = layer
    return model


# ---- memory -----------------------------------------------------------------------------------
KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "LSTM, open forget gate": nn.LSTM}


def remember(kind, T, steps=600, seed=0):
    """Trains one of the `KINDS` to return the first of T random numbers; its RMSE, 1 is guessing.

    Each step of Adam sees 64 fresh sequences; the RMSE is that on 1000 more.
    """
    torch.manual_seed(seed)
    model = model_around(KINDS[kind](1, 50, batch_first=True))
    if kind == "LSTM, open forget gate":
        with torch.no_grad():
            model.lstm.bias_ih_l0.chunk(4)[1].fill_(3)  # the order is i, f, g, o
            model.lstm.bias_hh_l0.chunk(4)[1].fill_(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(steps):
        numbers = torch.randn(64, T, 1)
        loss = nn.functional.mse_loss(model(numbers), numbers[:, 0])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
    numbers = torch.randn(1000, T, 1)
    with torch.no_grad():
        return lstm_sine.rmse(model(numbers).numpy(), numbers[:, 0].numpy())


def memory(seeds):
    """Prints who remembers: a row for each T, in each cell the RMSE of every seed."""
    print_head("T", *KINDS)
    for T in (10, 20, 50):
        cells = []
        for kind in KINDS:
            errors = [remember(kind, T, seed=seed) for seed in range(seeds)]
            cells.append(", ".join(f"{error:.2f}" for error in errors))
        print_row(T, *cells)


# ---- mackey-glass -----------------------------------------------------------------------------
def learn_mackey_glass(make_model, seq_length, seed):
    """Trains a new model; returns its number of parameters and two test RMSEs.

    The RMSEs are the model's and linear autoregression's, in the units of the series. Settings:
    --series mackey-glass --split time --epochs 100 --schedule one-cycle --lr 0.02
    """
    torch.manual_seed(seed)
    series = lstm_sine.mackey_glass(1000)
    mean, std = lstm_sine.scale_of(series)
    windows, targets = lstm_sine.create_sequences((series - mean) / std, seq_length)
    train, test = lstm_sine.split_windows(len(windows), "time")
    train_loader = lstm_sine.make_loader(windows, targets, train, 32, shuffle=True)
    test_loader = lstm_sine.make_loader(windows, targets, test, 32)
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    with redirect_stdout(io.StringIO()):
        lstm_sine.train_model(model, train_loader, nn.MSELoss(), optimizer, 100, "one-cycle")
    predictions, _ = lstm_sine.evaluate_model(model, test_loader)
    straight = lstm_sine.baselines(windows, targets, train, test)["linear autoregression"]
    size = sum(parameter.numel() for parameter in model.parameters())
    error = std * lstm_sine.rmse(predictions[:, 0].astype(float), targets[test])
    return size, error, std * lstm_sine.rmse(straight, targets[test])


def mackey_glass(seeds):
    """Prints the LSTM over linear autoregression by window, then other networks beside it."""
    lengths = (1, 2, 3, 4, 6, 10, 20)
    medians, worst = [], []
    for seq_length in lengths:
        ratios = []
        for seed in range(seeds):
            _, error, straight = learn_mackey_glass(lstm_sine.LSTMModel, seq_length, seed)
            ratios.append(error / straight)
        medians.append(f"{statistics.median(ratios):.2g}")
        worst.append(f"{max(ratios):.2g}")
    print_head("window", *lengths)
    print_row(f"LSTM / linear autoregression, median of {seeds} seeds", *medians)
    print_row("worst", *worst)
    print()

    models = {
        "LSTM": lstm_sine.LSTMModel,
        "GRU": lambda: model_around(nn.GRU(1, 50, batch_first=True)),
        "RNN": lambda: model_around(nn.RNN(1, 50, batch_first=True)),
        "perceptron, two layers of 100": lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(10, 100), nn.Tanh(), nn.Linear(100, 100), nn.Tanh(),
            nn.Linear(100, 1)),
        "perceptron, one layer of 50": lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(10, 50), nn.Tanh(), nn.Linear(50, 1)),
    }
    print_head("windows of 10", "parameters", "test RMSE of two seeds")
    for name, make_model in models.items():
        size, first, straight = learn_mackey_glass(make_model, 10, 0)
        _, second, _ = learn_mackey_glass(make_model, 10, 1)
        print_row(name, f"{size:,}", f"{first:.1e}, {second:.1e}")
    print_row("linear autoregression", 11, f"{straight:.1e}")


# ---- the script itself, run by its options ----------------------------------------------------
def run_script(options, seed):
    """Runs the script without its figures; returns a dict from name to RMSE, and to seconds."""
    train_model = lstm_sine.train_model
    seconds = []

    def timed(*arguments):
        began = time.perf_counter()
        losses = train_model(*arguments)
        seconds.append(time.perf_counter() - began)
        return losses

    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        ends = ["--seed", str(seed), "--no-show", "--output", str(Path(folder, "figure.png"))]
        draws_nothing = mock.patch.multiple(
            lstm_sine, train_model=timed, new_figure=mock.DEFAULT,
            plot_predictions=mock.DEFAULT, save_and_show=mock.DEFAULT)
        with draws_nothing, redirect_stdout(printed):
            lstm_sine.main([*options, *ends])
    text = printed.getvalue()
    results = {"seconds": seconds[0]}
    listed = re.search(r"^test RMSE: (.*)$", text, re.MULTILINE)[1]
    for item in listed.split(", "):
        name, number = item.rsplit(" ", 1)
        results[name] = float(number)
    free_run = re.search(r"^forecast RMSE against .*: (\S+)$", text, re.MULTILINE)
    if free_run:
        results["free run"] = float(free_run[1])
    return results


WAVE = "--freq 10 --split time --epochs 100"
FALLING = WAVE + " --schedule one-cycle --lr 0.02"
FINAL = "--freq 10 --split time --epochs 200 --schedule one-cycle --lr 0.02 --seq-length 6"
COMMANDS = (
    "", "--subtract-last", "--freq 10", "--freq 10 --subtract-last", "--freq 10 --split time",
    WAVE, WAVE + " --schedule one-cycle", FALLING, FALLING + " --subtract-last",
    FALLING + " --seq-length 6", FINAL, FINAL + " --subtract-last",
)


def steps(seeds):
    """Prints one change at a time, then the final command on more seeds and on fresh ones."""
    print_head("command, and `--forecast 1000`", "one-step / persistence", "free run, median",
               "free run, worst", "seconds of training")
    for command in COMMANDS:
        options = [*command.split(), "--forecast", "1000"]
        runs = [run_script(options, seed) for seed in range(seeds)]
        ratio = statistics.median(run["LSTM"] / run["persistence"] for run in runs)
        middle = statistics.median(run["free run"] for run in runs)
        worst = max(run["free run"] for run in runs)
        seconds = statistics.median(run["seconds"] for run in runs)
        print_row(f"`{command}`" if command else "the article", f"{ratio:.2g}", f"{middle:.2g}",
                  f"{worst:.2g}", f"{seconds:.1f}")
    print(f"\n`{FINAL}`\n")
    print_head("seeds", "one-step RMSE, worst", "free run, median", "free run, worst")
    for first in (0, 100):
        chosen = range(first, first + 2 * seeds)
        runs = [run_script([*FINAL.split(), "--forecast", "1000"], seed) for seed in chosen]
        one_step = max(run["LSTM"] for run in runs)
        middle = statistics.median(run["free run"] for run in runs)
        worst = max(run["free run"] for run in runs)
        print_row(f"{chosen[0]} to {chosen[-1]}", f"{one_step:.2e}", f"{middle:.2g}",
                  f"{worst:.2g}")


# ---- own --------------------------------------------------------------------------------------
def own(files):
    """Prints the LSTM's test RMSE over persistence's and linear autoregression's for each file."""
    print_head("series", "points", "LSTM / persistence", "LSTM / linear autoregression",
               "LSTM / persistence with --no-subtract-last", "windows of 24: LSTM / persistence",
               "windows of 24: LSTM / linear autoregression")
    columns = [[], [], [], [], []]
    for file in files:
        points = len(lstm_sine.read_series(file)[0])
        given = run_script(["--data", file], 42)
        plain = run_script(["--data", file, "--no-subtract-last"], 42)
        ratios = [given["LSTM"] / given["persistence"],
                  given["LSTM"] / given["linear autoregression"],
                  plain["LSTM"] / plain["persistence"]]
        if points >= 4 * 24:  # else too few windows for 25 weights
            longer = run_script(["--data", file, "--seq-length", "24"], 42)
            ratios.append(longer["LSTM"] / longer["persistence"])
            ratios.append(longer["LSTM"] / longer["linear autoregression"])
        for column, ratio in zip(columns, ratios):
            column.append(ratio)
        print_row(Path(file).stem, f"{points:,}", *[f"{ratio:.2f}" for ratio in ratios])
    columns = [column for column in columns if column]
    means = [statistics.geometric_mean(column) for column in columns]
    print_row("worst", "", *[f"{max(column):.2f}" for column in columns])
    print_row("geometric mean", "", *[f"{mean:.2f}" for mean in means])


def main():
    """Prints the table that the command line names."""
    parser = argparse.ArgumentParser(description="Prints the README's tables in Markdown.")
    parser.add_argument("table", choices=("memory", "mackey-glass", "steps", "own"))
    parser.add_argument("files", nargs="*", metavar="FILE", help="of own: one column each")
    parser.add_argument("--seeds", type=int, help="from 0 on [3 for memory, else 10; own: 42]")
    args = parser.parse_args()
    if bool(args.files) != (args.table == "own"):
        parser.error("own, and no other table, takes files")
    torch.set_num_threads(1)
    if args.table == "own":
        own(args.files)
    else:
        table = {"memory": memory, "mackey-glass": mackey_glass, "steps": steps}[args.table]
        table(args.seeds or (3 if args.table == "memory" else 10))


if __name__ == "__main__":
    main()
