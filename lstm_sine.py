"""An LSTM learns a sine series: the article's experiment, and what its numbers are worth.

    python lstm_sine.py           trains as the article does, prints the losses, draws lstm_sine.png
    python lstm_sine.py --help    a forecast, a look at the memory, a series of your own, and more

Read it beside the article 长短期记忆（LSTM）网络模型. Part 1 is the article, under its headings: an
LSTM by hand, then data, model, training and evaluation. It ends with `main`, which takes the
article's steps in turn; if you only want to understand LSTMs, stop there. Part 2 draws the
pictures, and part 3 is everything else.
"""
import time
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import (BatchSampler, DataLoader, RandomSampler, Subset, TensorDataset,
                              random_split)

# Only parts 2 and 3 need these.
import argparse
import copy
import csv
import os
import sys
import tempfile
from pathlib import Path

from matplotlib import font_manager, pyplot as plt, text


# =================================== Part 1: the article ======================================
# %% 二、模型原理 | section 2, how it works: an LSTM by hand
def lstm_by_hand(lstm, x):
    """Runs an `nn.LSTM` with its own weights, but by the equations of section 2, one on each line.

    `x`: (B, T, input_size), a batch of B windows of T time steps. Returns what the last layer
    computes: a dict from each letter of "ifgoch" to a tensor (B, T, H), with H the hidden size.
    Letters as on PyTorch's nn.LSTM page: W_if leads from the input to f, W_hf from h to f.
    Sources: Hochreiter & Schmidhuber 1997, and Gers et al. 2000 for the forget gate.
    """
    for w_ih, w_hh, bias_ih, bias_hh in lstm.all_weights:  # PyTorch's list, one entry a layer
        # Each of the four stacks its parts for i, f, g and o.
        W_ii, W_if, W_ig, W_io = w_ih.chunk(4)  # each (H, width of x)
        W_hi, W_hf, W_hg, W_ho = w_hh.chunk(4)  # each (H, H)
        b_i, b_f, b_g, b_o = (bias_ih + bias_hh).chunk(4)  # (H,)
        h = c = x.new_zeros(len(x), lstm.hidden_size)  # (B, H)
        history = {letter: [] for letter in "ifgoch"}
        for t in range(x.shape[1]):
            x_t = x[:, t]  # (B, width of x)
            # 四个输入: linear combinations of x_t and the previous h, not of c; only weights differ
            i = torch.sigmoid(x_t @ W_ii.T + h @ W_hi.T + b_i)  # 输入门 input gate: how much enters
            f = torch.sigmoid(x_t @ W_if.T + h @ W_hf.T + b_f)  # 遗忘门 forget gate: how much stays
            g = torch.tanh(x_t @ W_ig.T + h @ W_hg.T + b_g)     # 候选值 candidate: what may enter
            o = torch.sigmoid(x_t @ W_io.T + h @ W_ho.T + b_o)  # 输出门 output gate: how much shows
            c = f * c + i * g  # 记忆细胞 cell state: along it, a gradient is only multiplied by f
            h = o * torch.tanh(c)  # 隐藏状态 hidden state
            for letter, value in zip("ifgoch", (i, f, g, o, c, h)):
                history[letter].append(value)
        history = {letter: torch.stack(values, dim=1) for letter, values in history.items()}
        x = history["h"]  # what the next layer reads
    return history


# %% 五、Python实现示例：数据生成 | section 5, data: a series, its windows, their split
def generate_sequence(length, freq=0.1, future=0):
    """Returns `length` (at least 2) points of a sine over `freq` cycles, then `future` more."""
    return np.sin(2 * np.pi * freq / (length - 1) * np.arange(length + future))


def create_sequences(data, seq_length):
    """Cuts a series (n,) into windows of `seq_length` points, each with the next point as target.

    Returns copies: (n - seq_length, seq_length), (n - seq_length,). ValueError if no window fits.
    """
    windows = np.lib.stride_tricks.sliding_window_view(data[:-1], seq_length)
    return np.array(windows), np.array(data[seq_length:])


def split_windows(dataset, in_time=False):
    """Splits 80 : 20 into training and test windows, at random or, if `in_time`, in order."""
    train_size = int(0.8 * len(dataset))
    if not in_time:
        return random_split(dataset, [train_size, len(dataset) - train_size])
    return Subset(dataset, range(train_size)), Subset(dataset, range(train_size, len(dataset)))


def to_tensor(values):
    """Returns float32 with a last axis of size 1: (n,) to (n, 1), (n, T) to (n, T, 1)."""
    return torch.FloatTensor(values).unsqueeze(-1)


# %% 五、Python实现示例：模型定义 | section 5, model: an LSTM layer and a linear head
class LSTMModel(nn.Module):
    """Predicts the next value: an `nn.LSTM`, started at zero, and a linear head on its last h."""

    def __init__(self, input_size=1, hidden_size=50, num_layers=1, output_size=1):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_size, output_size)

    def forward(self, x):           # (B, T, input_size)
        out, _ = self.lstm(x)       # (B, T, hidden_size)
        return self.fc(out[:, -1])  # (B, output_size)


class SubtractLast(LSTMModel):
    """Reads and predicts differences from the last value (as NLinear, Zeng et al. 2023)."""

    def forward(self, x):  # (B, T, 1)
        last = x[:, -1:]   # (B, 1, 1)
        return super().forward(x - last) + last[:, 0]  # (B, 1)


# %% 五、Python实现示例：训练过程 | section 5, training: mean squared error and Adam
def train_model(model, train_loader, criterion, optimizer, epochs=100, scheduler=None):
    """Trains `model` in place; prints the mean loss of every tenth epoch and the last; returns all.

    `train_loader` yields inputs (B, T, input_size) and targets (B, output_size); a `scheduler`
    steps after each batch. Raises FloatingPointError if a loss is not finite.
    """
    device = next(model.parameters()).device
    started = time.monotonic()
    losses = []
    model.train()
    for epoch in range(epochs):
        total_loss = 0.0
        for k, (inputs, targets) in enumerate(train_loader, start=1):
            optimizer.zero_grad()
            loss = criterion(model(inputs.to(device)), targets.to(device))
            loss.backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
            # Summed on the device, so that the CPU need not wait; in double, as in the article.
            total_loss += loss.detach().double()
            show_progress(started, (epoch + k / len(train_loader)) / epochs)
        losses.append(float(total_loss) / len(train_loader))
        if not np.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss of epoch {epoch + 1} is {losses[-1]}; lower --lr")
        if (epoch + 1) % 10 == 0 or epoch + 1 == epochs:
            print(f"Epoch [{epoch + 1}/{epochs}], Loss: {losses[-1]:.6e}", flush=True)
    return losses


# %% 五、Python实现示例：评估 | section 5, evaluation: one step ahead, then a free run
def evaluate_model(model, test_loader):
    """Returns predictions and actual values in the loader's order, both (n, output_size)."""
    device = next(model.parameters()).device
    predictions, actuals = [], []
    model.eval()
    with torch.no_grad():
        for inputs, targets in test_loader:
            predictions.append(model(inputs.to(device)).cpu())
            actuals.append(targets)
    return torch.cat(predictions).numpy(), torch.cat(actuals).numpy()


def make_rules(model, train_windows, train_targets):
    """Returns the network and three baselines as rules, from windows (n, T) to next values (n,).

    Linear autoregression is a weighted sum of a window's values and a constant, fitted by least
    squares. On a sine it is exact if T > 1, since sin(a + w) = 2 cos(w) sin(a) - sin(a - w).
    """
    def predict_next(windows):
        batches = to_tensor(windows).split(1024)  # (1024, T, 1)
        # evaluate_model asks for targets; none are needed here, so anything will do.
        predictions, _ = evaluate_model(model, [(batch, batch[:, -1]) for batch in batches])
        return predictions[:, 0].astype(np.float64)

    def with_constant(windows):  # (n, T) to (n, T + 1)
        return np.column_stack([windows, np.ones(len(windows))])

    weights, *_ = np.linalg.lstsq(with_constant(train_windows), train_targets, rcond=None)
    return {type(model.lstm).__name__: predict_next,  # "LSTM", or "GRU" if you put one there
            "persistence": lambda windows: windows[:, -1],
            "repeated window": lambda windows: windows[:, 0],  # exact if the period is T
            "linear autoregression": lambda windows: with_constant(windows) @ weights}


def rmse(predictions, actuals, axis=None):
    """Returns the root mean squared error."""
    return np.sqrt(np.mean((predictions - actuals) ** 2, axis=axis))


def free_run(rule, windows, horizon):
    """Predicts `horizon` values after each window, feeding each back: (n, T) to (n, horizon)."""
    started = time.monotonic()
    future = np.empty((len(windows), horizon))
    for step in range(horizon):
        future[:, step] = rule(windows)
        windows = np.column_stack([windows[:, 1:], future[:, step]])
        show_progress(started, (step + 1) / horizon)
    return future


# %% 五、Python实现示例：全过程 | section 5, the whole: the article's steps, one after the other
def main(argv=None):
    """Takes the article's steps; `argv` is a list of options, or None for the command line's.

    Returns a namespace. In the units of the data: data.series (n,), `predictions` (rule name to
    (test,)), `actual` (test,), `errors` (rule name to RMSE), `forecast` (horizon,), `check` (see
    `check_forecast`). Scaled: `windows` (n - T, T), what `rules` read and return, `losses`
    (epochs,). Also: `args`, `model`, `train`, `test` (indices of windows), `figures` (by path).
    """
    args = read_options(argv)  # in part 3, as are load_series and describe
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False  # else cuDNN may round what it multiplies to 11 bits

    # 数据: by default the article's sine, which is not scaled.
    data = load_series(args)
    scaled = (data.series - data.mean) / data.scale  # (n,)
    windows, targets = create_sequences(scaled, args.seq_length)  # (n - T, T), (n - T,)
    x_tensor, y_tensor = to_tensor(windows), to_tensor(targets)   # (n - T, T, 1), (n - T, 1)
    parts = split_windows(TensorDataset(x_tensor, y_tensor), args.split == "time")
    train, test = (np.array(part.indices) for part in parts)      # indices of windows
    batches = BatchSampler(RandomSampler(parts[0]), args.batch_size, drop_last=False)  # shuffled
    train_loader = DataLoader(parts[0], sampler=batches, batch_size=None)  # a batch in one go

    # 模型
    model_class = SubtractLast if args.subtract_last else LSTMModel
    model = model_class(1, args.hidden_size, args.num_layers, 1).to(args.device)
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    steps = args.epochs * len(train_loader)
    scheduler = OneCycleLR(optimizer, args.lr, steps) if args.schedule == "one-cycle" else None
    print(describe(args, data, train, test, model))
    is_plain = compare_by_hand(model.lstm, x_tensor[:32].to(args.device))  # in part 2

    # 训练
    losses = train_model(model, train_loader, criterion, optimizer, args.epochs, scheduler)
    persistence_loss = criterion(x_tensor[train, -1], y_tensor[train]).item()

    # 评估: every rule predicts the test windows (the LSTM by evaluate_model); then a free run.
    rules = make_rules(model, windows[train], targets[train])
    predictions = {name: rule(windows[test]) * data.scale + data.mean
                   for name, rule in rules.items()}
    actual = data.series[test + args.seq_length]  # window k's target is point k + T
    errors = {name: rmse(values, actual) for name, values in predictions.items()}
    network = next(iter(rules))  # the name of the first rule
    last_window = scaled[None, -args.seq_length:]  # (1, T)
    forecast = free_run(rules[network], last_window, args.forecast)[0] * data.scale + data.mean
    run = SimpleNamespace(**locals())  # all the names above
    run.check = check_forecast(run)
    print(verdict(run))

    # 可视化
    run.figures = draw_and_save(run)
    return run


# =================================== Part 2: the pictures =====================================
# %% 可视化 | figures: labels are "中文 | English", and `draw_and_save` keeps one of the two
ZH = {"persistence": "重复上一个值", "repeated window": "重复上一个窗口",
      "linear autoregression": "线性自回归"}


def finish(panel, title, **properties):
    """Adds a title and beside it a legend that hides nothing."""
    panel.set(**properties)
    panel.set_title(title, loc="left", fontsize="medium")
    panel.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=6, fontsize="small", frameon=False)


def plot_predictions(figure, run):
    """Draws predictions, losses, the forecast and the errors."""
    series, steps, network = run.data.series, run.test + run.args.seq_length, run.network
    article, loss, in_time, error = figure.subplot_mosaic("aaaa.lll;tttttttt;eeeeeeee").values()
    figure.suptitle(run.data.name, parse_math=False)

    article.plot(run.actual, ".-", ms=3, label="Actual Values")
    article.plot(run.predictions[network], ".--", ms=3, label="Predicted Values")
    shuffled = "样本（随机划分打乱了顺序） | sample (the random split has shuffled the order)"
    finish(article, f"{network}预测结果 | {network} prediction results", ylabel="值 | value",
           xlabel=shuffled if run.args.split == "random" else "样本 | sample")

    loss.semilogy(np.arange(1, len(run.losses) + 1), run.losses, "C1.-", ms=4, label=network)
    loss.axhline(run.persistence_loss, color="C2", ls="--", label="重复上一个值 | persistence")
    finish(loss, "训练窗口上的损失 | loss, training windows", xlabel="训练轮次 | epoch")

    shown = np.arange(max(0, steps.min() - len(steps), len(series) - 2000), len(series))
    in_time.plot(shown, series[shown], "lightgray", lw=4, label="序列 | series")
    in_time.plot(steps, run.actual, "C0.", ms=5, label="测试部分 | test part")
    in_time.plot(steps, run.predictions[network], "C1.", ms=3, label="单步预测 | one step ahead")
    for k, (name, guess) in enumerate(run.predictions.items(), start=1):
        error.plot(steps, abs(guess - run.actual), f"C{k}.", zorder=9 - k,  # the network on top
                   label=f"{ZH.get(name, name)} | {name}")

    forecast, truth = run.forecast, run.data.future[:len(run.forecast)]
    ahead = len(series) + np.arange(len(forecast))
    if len(truth):
        in_time.plot(ahead, truth, "darkgray", lw=3, label="后续真实值 | true continuation")
        error.plot(ahead, abs(forecast - truth), "k--", label="递归预测 | free run")
    if len(forecast):
        in_time.plot(ahead, forecast, "k--", label="递归预测 | free run")
    if run.check.steps:
        band, part = 2 * run.check.errors[network], slice(run.check.steps)
        in_time.fill_between(ahead[part], forecast[part] - band, forecast[part] + band,
                             color="C1", alpha=0.25, lw=0, label="±2 RMSE")
    # A forecast that diverges leaves the panel.
    low, high, (bottom, top) = series.min(), series.max(), in_time.get_ylim()
    finish(in_time, "同一批预测，按时间顺序 | the same predictions in time", xlim=(shown[0], None),
           ylabel="值 | value", ylim=(max(bottom, 2 * low - high), min(top, 2 * high - low)))
    error.set_yscale("symlog", linthresh=10 ** np.floor(np.log10(error.dataLim.ymax or 1) - 4))
    for panel in (loss, error):
        panel.yaxis.set_major_formatter("{x:g}")  # quicker to draw than powers
    finish(error, "绝对误差：越低越好 | absolute error: lower is better", ylim=(0, None),
           xlim=in_time.get_xlim(), xlabel="时间步 | time step")


# %% 记忆细胞 | figures: what the cell remembers, and what it forgets
def compare_by_hand(lstm, x):
    """Compares `lstm_by_hand` with the layer, if it is plain."""
    if not isinstance(lstm, nn.LSTM) or not lstm.bias or lstm.bidirectional or lstm.proj_size:
        print(f"{lstm} is not a plain LSTM: the equations by hand, and --memory, do not fit it")
        return False
    difference = (lstm_by_hand(lstm, x)["h"] - lstm.eval()(x)[0]).abs().max()  # eval: no dropout
    print(f"the equations by hand differ from nn.LSTM by at most {difference:.1e}")
    return True


def plot_memory(figure, run):
    """Draws what the hidden unit that weighs most in the prediction remembers of the last window.

    On the right, 5 is added to the forget gate's bias, so that f is near 1. Map: a row is what
    entered at one time step, a cell is what is left of it at another; a column sums to c.
    """
    model = copy.deepcopy(run.model).cpu()
    x = to_tensor(run.windows[-1:] - run.windows[-1:, -1:] * run.args.subtract_last)
    with torch.no_grad():
        trained = lstm_by_hand(model.lstm, x)  # x, (1, T, 1), is what the LSTM reads
        unit = (model.fc.weight[0] * trained["h"][0, -1]).abs().argmax().item()
        model.lstm.all_weights[-1][2].chunk(4)[1].add_(5)  # last layer, bias_ih, its part for f
        forced = lstm_by_hand(model.lstm, x)
    figure.suptitle(f"隐藏单元 {unit} 对窗口的记忆 | What hidden unit {unit} remembers of a window")
    titles = "训练所得 | as trained", "强制打开遗忘门 | f forced open"
    panels = figure.subplots(3, 2, sharex=True, sharey="row", height_ratios=(3, 3, 6))
    for (gates, states, entries), title, history in zip(panels.T, titles, (trained, forced)):
        i, f, g, o, c, h = (history[letter][0, :, unit].numpy() for letter in "ifgoch")
        gates.plot(np.stack([i, f, o], axis=1), ".-", label=[
            "输入门 i | input i", "遗忘门 f | forget f", "输出门 o | output o"])
        finish(gates, title, ylim=(-0.05, 1.05), ylabel="门 | gates")
        states.plot(x[0, :, 0], "k.:", label="读入的值 x | input x")
        states.plot(np.stack([c, h], axis=1), ".-", label=[
            "记忆细胞状态 c | cell state c", "隐藏状态 h | hidden state h"])
        finish(states, "", ylabel="状态 | states")
        left = np.full((len(f), len(f)), np.nan)                # grey: it has not entered yet
        for t in range(len(f)):
            left[:t, t] = f[t] * left[:t, t - 1]                # f is kept of what entered before,
            left[t, t] = i[t] * g[t]                            # and i g enters now
        image = entries.imshow(left, "RdBu_r", vmin=-1, vmax=1, aspect="auto")
        kept = f"{f[1:].prod():.1%}"
        entries.set_title(f"i·g 剩余（最早的剩 {kept}） | i·g left: {kept} of the first", size=10)
        entries.set(facecolor="silver", xlabel="时间步 | time step", ylabel="进入时刻 | entered at")
    figure.colorbar(image, ax=panels, shrink=0.5, anchor=(0, 0), fraction=0.1, pad=0.02)


# =================================== Part 3: everything else ==================================
# %% 输出 | what is printed, and what a forecast is worth
def describe(args, data, train, test, model):
    """Returns, as text, what will be trained on what."""
    series, test_steps = data.series, test + args.seq_length
    seen = np.isin(np.arange(len(series)), train[:, None] + np.arange(args.seq_length + 1))
    known, asked = series[seen], series[test_steps]
    outside = np.sum((asked < known.min()) | (asked > known.max()))
    size = sum(map(torch.numel, model.lstm.parameters()))
    return f"""\
data: {data.name.split(" | ")[-1]}, {len(series):,} points: first {series[0]:.12g}, \
last {series[-1]:.12g}, lowest {series.min():.12g}, highest {series.max():.12g}
scale: windows and losses are (value - mean) / scale, mean {data.mean:.6g}, scale {data.scale:.6g}
split: {args.split}, {len(train):,} training and {len(test):,} test windows of {args.seq_length}; \
{seen[test_steps].sum():,} test targets were seen in training, {outside:,} are out of range
model: {type(model.lstm).__name__} with {size:,} parameters, and a linear head
device: {args.device}, CPU threads: {args.threads}, seed: {args.seed}"""


def show_progress(started, share):
    """Shows on a terminal how much of a long job is left."""
    passed = time.monotonic() - started
    if passed > 2 and sys.stderr and sys.stderr.isatty():
        print(f"{share:4.0%}, {passed / share - passed:.0f} s left   ", end="\r", file=sys.stderr)


def check_forecast(run):
    """Measures free runs of every rule from up to 100 places, in a stretch not trained on.

    That is the test part of a split in time and, of a generated series, its future. The runs are as
    long as the forecast, but at most half as long as the stretch and at most 10,000 steps. Returns
    a namespace: `steps` (0 if there is no stretch), `places`, `apart` (how many runs fit in without
    overlap), and `errors`, from each rule's name to its RMSE at each step ahead (steps,).
    """
    data, T = run.data, run.args.seq_length
    known = (np.append(data.series, data.future) - data.mean) / data.scale
    first = len(run.train) + T if run.args.split == "time" else len(data.series)
    stretch = len(known) - first
    steps = min(run.args.forecast, stretch // 2, 10_000)
    places = np.unique(np.linspace(first, len(known) - steps, 100).astype(int))
    windows = np.stack([known[place - T:place] for place in places])
    truth = np.stack([known[place:place + steps] for place in places])
    with np.errstate(over="ignore", invalid="ignore"):  # a linear rule may grow without bound
        errors = {name: rmse(free_run(rule, windows, steps), truth, axis=0) * data.scale
                  for name, rule in run.rules.items()}
    apart = min(len(places), stretch // max(steps, 1))
    return SimpleNamespace(steps=steps, places=len(places), apart=apart, errors=errors)


def best_and_ties(predictions, actual):
    """Returns the names of the most accurate rule and of those too close to it to call.

    In a tie, mean squares differ by at most two standard errors (errors taken as independent).
    """
    squares = np.stack([(values - actual) ** 2 for values in predictions.values()])  # (rules, test)
    worse = squares - squares[squares.mean(axis=1).argmin()]
    close = worse.mean(axis=1) <= 2 * worse.std(axis=1) / np.sqrt(len(actual))
    return [name for name, tie in zip(predictions, close) if tie]


def verdict(run):
    """Returns, as text, all errors and what to conclude."""
    args, check, network, columns = run.args, run.check, run.network, {"one step": run.errors}
    best = best_and_ties(run.predictions, run.actual)
    claim = "is the most accurate" if len(best) == 1 else "are too close to call"
    lines = [f"one step: {' and '.join(best)} {claim} ({len(run.actual):,} test windows)"]
    worse = network not in best and run.errors[network] > run.errors["persistence"]
    if run.losses[-1] > 10 * run.persistence_loss:
        lines += [f"The {network} has not learned yet: change --lr, raise --epochs, find outliers"]
    elif worse and not args.subtract_last:
        lines += [f"The {network} loses to persistence, which knows the level: try --subtract-last"]
    if check.steps:
        free = {name: rmse(values, 0) for name, values in check.errors.items()}
        columns[f"free run of {check.steps:,} steps"] = free
        flat = "worse" if free[network] > free["persistence"] else "better"
        lines += [f"free run: {min(free, key=free.get)} is the most accurate ({check.steps:,} of "
                  f"{args.forecast:,} steps, {check.places} places, {check.apart} without overlap);"
                  f" the {network} is {flat} than a flat line"]
    elif args.forecast:
        lines += ["free run: not checked, since no stretch of the series was kept out of training"]
    if args.forecast:
        low, high = run.forecast.min(), run.forecast.max()
        least, most = run.data.series.min(), run.data.series.max()
        lines += [f"forecast: {args.forecast:,} steps, first {run.forecast[0]:.6g}, last "
                  f"{run.forecast[-1]:.6g}, lowest {low:.6g}, highest {high:.6g}"]
        if max(least - low, high - most) > (most - least) / 2:
            lines += [f"It leaves the range seen, {least:.6g} to {most:.6g}. Try windows as long "
                      "as the season" + " or --no-subtract-last" * args.subtract_last]
    table = [f"{'test error (RMSE)':22}" + "".join(f" {title:>23}" for title in columns)]
    table += [f"{name:22}" + "".join(f"{errors[name]:#24.6g}" for errors in columns.values())
              for name in run.rules]
    return "\n".join(table + lines)


# %% 其他序列 | other series: Mackey-Glass, and your own
def mackey_glass(length):
    """Returns the Mackey-Glass series, float64 (length,), a point every 6 units of time.

    dx/dt = 0.2 x(t-17) / (1 + x(t-17)^10) - 0.1 x(t), with x = 1.2 before the start (Mackey &
    Glass 1977), by Euler's method in steps of 0.1, without the first 500 units. It is chaotic.
    """
    x = [1.2] * 171  # x(-17) to x(0)
    for _ in range(5000 + 60 * (length - 1)):  # x[-1] is x(t), x[-171] is x(t - 17)
        x.append(x[-1] + 0.1 * (0.2 * x[-171] / (1 + x[-171]**10) - 0.1 * x[-1]))
    return np.array(x[5170::60])  # from x(500) on


def load_series(args):
    """Returns a namespace: `name`, `series` (n,), `future` (empty if unknown), `mean`, `scale`.

    The sine is scaled only with --subtract-last. Mean and scale come from the first 80 %; the scale
    is the standard deviation or, with --subtract-last, the RMS of the changes.
    """
    ahead = 2 * args.forecast if args.data is None else 0
    mean, scale = 0.0, 1.0
    if args.data is not None:
        try:
            values, name = read_series(args.data, args.column)
        except (OSError, ValueError, csv.Error) as error:
            refuse(f"--data {args.data!r} cannot be read as UTF-8 text with a series: {error}")
    elif args.series == "mackey-glass":
        values, name = mackey_glass(args.length + ahead), "Mackey-Glass 序列 | Mackey-Glass series"
    else:
        values = generate_sequence(args.length, args.freq, ahead)
        name = f"{args.freq:g} 个周期的正弦波 | {args.freq:g} cycles of a sine"
    series, future = np.split(values, [len(values) - ahead])
    early = series[:int(0.8 * len(series))]
    if len(series) < args.seq_length + 2:
        refuse(f"{len(series)} points are too few to train and test windows of {args.seq_length}")
    if args.data is not None or args.series != "sine" or args.subtract_last:
        mean = early.mean()
        scale = rmse(early[1:], early[:-1]) if args.subtract_last else early.std()
        if np.ptp(early) == 0:
            refuse(f"{name}: the first 80 % are constant, so that there is nothing to learn")
    return SimpleNamespace(name=name, series=series, future=future, mean=mean, scale=scale)


def number(cell):
    """Returns the number in a cell, even nan, or None."""
    try:
        return float(cell)
    except ValueError:
        return None


def read_series(path, column=None):
    """Reads one column of a text file: returns the series, float64 (n,), and what it is called.

    Columns are separated by whichever of tab, semicolon and comma is commonest in the first line;
    `column` is a name or a number from 1. Every cell must be a finite number; the first may be a
    name. Raises OSError, or ValueError or csv.Error with what is wrong.
    """
    lines = Path(path).read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    separator = max("\t;,", key=lines[0].count)
    rows = list(csv.reader(lines, delimiter=separator, strict=True))
    names = [cell.strip() for cell in rows[0]] or [""]
    if len(lines) == 1:
        raise ValueError("a series goes down a column, and this file has one line")
    if len(rows) < len(lines):
        raise ValueError("a quote goes over several lines")
    by_name = [k for k, n in enumerate(names) if n == column]
    by_number = [k for k in range(len(names)) if column in (None, str(k + 1))]
    if len(by_name + by_number) != 1:
        raise ValueError("choose a column by --column, with a name or a number that fits just one; "
                         "only tabs, semicolons and commas, even decimal ones, separate columns, "
                         f"and the first line is taken for names: {', '.join(names)[:200]}")
    [k] = by_name + by_number
    named = k in by_name or (names[k] != "" and number(names[k]) is None)
    cells = [row[k] if len(row) == len(names) else "" for row in rows[named:]]
    values = np.array([number(cell) for cell in cells], dtype=float)  # None becomes nan
    bad = np.flatnonzero(~np.isfinite(values)) + named
    if len(bad):
        raise ValueError(f"line {bad[0] + 1} reads {lines[bad[0]][:60]!r}, and {len(bad) - 1:,} "
                         f"more are wrong; each needs {len(names)} columns and a number in column "
                         f"{k + 1}: fill gaps, write decimal points")
    name = f"column {names[k]}" if named else f"column {k + 1} (no name in the first line)"
    return values, f"{Path(path).name[-60:]}, {name[:60]}".replace(" | ", " ")


# %% 保存 | saving
FONTS = ("SimHei", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "Heiti TC",
         "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Arial Unicode MS")


def draw_and_save(run):
    """Draws, saves and shows; returns the figures by path."""
    args, figures, (output, memory, forecast) = run.args, {}, run.args.files
    plots = {output: plot_predictions}
    if args.memory and run.is_plain:
        plots[memory] = plot_memory
    fonts = [font for font in FONTS if font in font_manager.fontManager.get_font_names()]
    try:
        plt.draw_if_interactive()  # loads the toolkit for windows, if MPLBACKEND names one
        show = args.show and plt.get_backend().lower() != "agg"
    except ImportError:
        show = False
    new_figure = plt.figure if show else plt.Figure
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:  # until all files are whole
        for path, plot in plots.items():
            figures[path] = figure = new_figure(figsize=(11, 7.5))
            figure.subplots_adjust(0.08, 0.07, 0.98, 0.92, 0.12, 0.45)
            plot(figure, run)
            for label in figure.findobj(text.Text):
                part = label.get_text().split(" | ")[0 if args.lang == "zh" and fonts else -1]
                if not part.isascii():
                    label.set_fontfamily(["DejaVu Sans", *fonts])
                label.set_text(part if fonts else part.encode("ascii", "backslashreplace").decode())
            figure.savefig(Path(folder, path.name))
        if args.forecast:
            steps = enumerate(run.forecast, start=len(run.data.series))
            rows = "".join(f"{step},{value:.12g}\n" for step, value in steps)
            Path(folder, forecast.name).write_text("step,forecast\n" + rows)
        for part in sorted(Path(folder).iterdir()):
            print(f"saved: {part.replace(output.parent / part.name)}")
    if show:
        plt.show()
    return figures


# %% 参数 | options
def refuse(message):
    """Ends the run with one line on stderr and status 2."""
    print(f"lstm_sine.py: error: {message}", file=sys.stderr)
    sys.exit(2)


def read_options(argv):
    """Returns the options, checked and completed."""
    parser = argparse.ArgumentParser("lstm_sine.py", description=__doc__.splitlines()[0])
    parser.error = lambda message: refuse(f"{message} (--help lists the options)")
    add, either = parser.add_argument, parser.add_mutually_exclusive_group().add_argument
    either("--series", choices=("sine", "mackey-glass"), default="sine", help="which series [sine]")
    either("--data", metavar="FILE", help="a text file with a series of your own")
    add("--column", help="its column, by name or by number from 1 [the only one]")
    for name, default, meaning in (
            ("--length", 1000, "points of a generated series"),
            ("--freq", 0.1, "cycles of the sine over all its points"),
            ("--seq-length", 10, "points in a window"),
            ("--hidden-size", 50, "hidden units in a layer"),
            ("--num-layers", 1, "LSTM layers"),
            ("--epochs", 50, "passes over the training windows"),
            ("--batch-size", 32, "windows in a batch"),
            ("--lr", 0.001, "learning rate of Adam"),
            ("--seed", 42, "seed of all random draws"),
            ("--threads", 1, "CPU threads; more help large models only"),
            ("--forecast", 0, "values to predict past the end")):
        add(name, type=type(default), default=default, help=f"{meaning} [{default}]")
    add("--split", choices=("random", "time"), help="where to test [random; for FILE: time]")
    add("--subtract-last", action=argparse.BooleanOptionalAction,
        help="predict changes from the last value, in units of a typical one [no; for FILE: yes]")
    add("--schedule", choices=("constant", "one-cycle"), default="constant",
        help="the learning rate stays, or rises to --lr and then falls to almost 0 [constant]")
    add("--device", default="auto", help="cpu, cuda, cuda:N, or auto: CUDA if there is one [auto]")
    add("--memory", action="store_true", help="also draw what the LSTM remembers: NAME_memory.png")
    add("--output", default="lstm_sine.png", help="the figure: .png, .pdf or .svg [lstm_sine.png]")
    add("--no-show", dest="show", action="store_false", help="open no window")
    add("--lang", choices=("zh", "en"), default="zh", help="language of the labels [zh]")
    args = parser.parse_args(argv)

    for name, value in vars(args).items():
        lowest = {"seed": 0, "forecast": 0, "length": 2}.get(name, 1e-12)
        if type(value) in (int, float) and not lowest <= value <= 10**9:
            refuse(f"--{name.replace('_', '-')} does not take the number {value}")
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    try:  # in double precision, as the sum of the losses
        args.device = torch.zeros(1, dtype=torch.float64, device=args.device).device
    except (AssertionError, RuntimeError, TypeError) as error:
        refuse(f"--device {args.device} does not work here: {str(error).splitlines()[0]}")
    path, own = Path(args.output), args.data is not None
    if (path.suffix.lower() not in (".png", ".pdf", ".svg") or len(os.fsencode(path.name)) > 240
            or path.is_dir() or not os.access(path.parent, os.W_OK)):
        refuse(f"--output {args.output[:99]!r} is no .png, .pdf or .svg file that can be written")
    args.files = [path.with_name(path.stem + end)
                  for end in (path.suffix, f"_memory{path.suffix}", "_forecast.csv")]
    if own and Path(args.data).resolve() in [file.resolve() for file in args.files]:
        refuse(f"--output would write over {args.data}")
    if args.column is not None and not own:
        refuse("--column chooses a column of a file: give it with --data")
    args.split = args.split or ("time" if own else "random")
    args.subtract_last = own if args.subtract_last is None else args.subtract_last
    return args


# %% 启动 | start
def start():
    """Runs `main`; an error that a user can cause ends in one line."""
    if hasattr(sys.stdout, "reconfigure"):  # an old console escapes what it cannot show
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        main()
    except BrokenPipeError:  # the reader of the pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (KeyboardInterrupt, FloatingPointError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise  # a fault of the script; PyTorch has no MemoryError of its own
        sys.exit(f"lstm_sine.py: error: {str(error).split(chr(10))[0] or 'interrupted'}")


if __name__ == "__main__":
    start()
