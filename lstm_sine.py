"""An LSTM learns a sine series: the article's experiment, and what its numbers are worth.

    python lstm_sine.py           trains as the article does, prints the losses, draws lstm_sine.png
    python lstm_sine.py --help    a forecast, a look at the memory, a series of your own, and more

Read it beside the article 长短期记忆（LSTM）网络模型, whose headings it carries. Three parts:
1. The article in its own order: an LSTM cell by hand, then data, model, training and evaluation.
   It ends with `main`, the list of the article's steps. Who understands that can stop reading.
2. The pictures.
3. The rest, none of it about LSTMs: files, printed text, saving, options, start.
"""
import argparse
import copy
import csv
import math
import os
import re
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import font_manager
from matplotlib.text import Text
from torch import nn
from torch.utils.data import DataLoader


# =================================== Part 1: the article ======================================
# %% 二、模型原理 | section 2, how it works: one LSTM cell by hand
def lstm_by_hand(lstm, x):
    """Runs the weights of an `nn.LSTM` through the equations of section 2, one line an equation.

    `lstm`: batch_first, one direction, with biases. `x`: (B, T, input_size), B windows of T steps.
    Returns what the last layer computed: a dict from each letter i, f, g, o, c, h to (B, T, H), H
    units. Letters as on PyTorch's nn.LSTM page: W_if leads from the input to f, W_hf from h to f.
    Sources: Hochreiter & Schmidhuber 1997 (c, i, o), Gers et al. 2000 (f). `main` tests it.
    """
    layer_input = x
    for weight_ih, weight_hh, bias_ih, bias_hh in lstm.all_weights:  # one round a layer
        # PyTorch stacks the weights of i, f, g and o in one matrix, and splits a bias into two.
        W_ii, W_if, W_ig, W_io = weight_ih.chunk(4)           # each (H, width of layer_input)
        W_hi, W_hf, W_hg, W_ho = weight_hh.chunk(4)           # each (H, H)
        b_i, b_f, b_g, b_o = (bias_ih + bias_hh).chunk(4)     # each (H,)
        h = c = x.new_zeros(len(x), lstm.hidden_size)         # (B, H): nothing seen, nothing kept
        steps = []
        for x_t in layer_input.unbind(dim=1):                 # (B, width of layer_input)
            # 四个输入: four sums of the same x_t and last h, each with weights of its own.
            i = torch.sigmoid(x_t @ W_ii.T + h @ W_hi.T + b_i)  # 1st: 输入门 input gate, lets in
            f = torch.sigmoid(x_t @ W_if.T + h @ W_hf.T + b_f)  # 2nd: 遗忘门 forget gate, keeps
            g = torch.tanh(x_t @ W_ig.T + h @ W_hg.T + b_g)     # 3rd: 候选值 what may be let in
            o = torch.sigmoid(x_t @ W_io.T + h @ W_ho.T + b_o)  # 4th: 输出门 output gate, lets out
            # 记忆细胞 cell state: keep f of the old, let in i of the new. Along this line the
            # gradient dc_t / dc_(t-1) is f itself: while f is near 1, it survives many steps. In
            # a plain RNN, weights and a slope of tanh multiply it: it vanishes, or explodes.
            c = f * c + i * g
            h = o * torch.tanh(c)                             # 隐藏状态 hidden state, the output
            steps.append(torch.stack([i, f, g, o, c, h]))     # (6, B, H)
        i, f, g, o, c, h = torch.stack(steps, dim=2)          # each (B, T, H)
        layer_input = h                                       # what the next layer reads
    return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}


# %% 五、Python实现示例：数据生成 | section 5, data: a series, its windows, their split
def generate_sequence(length, freq=0.1, future=0):
    """Returns `length` points of a sine with `freq` cycles, and `future` more: float64 (n,)."""
    angles, step = np.linspace(0, 2 * np.pi * freq, length, retstep=True)  # in radians
    further_angles = angles[-1] + step * np.arange(1, future + 1)
    return np.sin(np.append(angles, further_angles))


def create_sequences(data, seq_length):
    """Cuts a series into windows of `seq_length` points, each with the next point as its target.

    `data`: array (n,). Returns views of it: windows (n - seq_length, seq_length) and targets
    (n - seq_length,). Raises ValueError where no window with a target fits.
    """
    if not 1 <= seq_length < len(data):
        raise ValueError(f"no window of {seq_length} points with a target fits into {len(data)}")
    # Writeable, because torch.from_numpy warns of arrays that are not.
    windows = np.lib.stride_tricks.sliding_window_view(data, seq_length, writeable=True)
    return windows[:-1], data[seq_length:]


def split_windows(count, split="random"):
    """Splits the indices of windows, 0 to count - 1: 80 % to train on, the rest to test.

    "random" draws as the article's `random_split` does; "time" trains on the first. Returns two
    integer arrays. Raises ValueError for another split, and where one side would be empty.
    """
    if split not in ("random", "time"):
        raise ValueError(f"no split is called {split!r}; take random or time")
    if count < 2:
        raise ValueError("a single window cannot be split")
    order = torch.randperm(count) if split == "random" else torch.arange(count)
    train_size = int(0.8 * count)
    return order[:train_size].numpy(), order[train_size:].numpy()


def to_tensor(values):
    """Returns an array as a float32 tensor with a last axis of size 1: one value a step."""
    return torch.from_numpy(values).float().unsqueeze(-1)


def make_loader(windows, targets, indices, batch_size, shuffle=False):
    """Returns a loader of inputs (B, T, 1) and targets (B, 1): the windows of these `indices`."""
    # The data set is the list of indices, so that a batch of windows is cut out in one go.
    def cut_out(batch):                                       # B indices
        return to_tensor(windows[batch]), to_tensor(targets[batch])

    return DataLoader(indices, batch_size, shuffle=shuffle, collate_fn=cut_out)


# %% 五、Python实现示例：模型定义 | section 5, model: an LSTM layer and a linear head
class LSTMModel(nn.Module):
    """Predicts the next value: an `nn.LSTM`, and a linear head on its last hidden state."""

    def __init__(self, input_size=1, hidden_size=50, num_layers=1, output_size=1):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_size, output_size)

    def forward(self, x):           # (B, T, input_size)
        out, _ = self.lstm(x)       # (B, T, hidden_size); h and c start at zero, as in the article
        return self.fc(out[:, -1])  # (B, output_size)


class SubtractLast(LSTMModel):
    """Predicts the last value plus a change, so that only this is to be learned (NLinear 2023)."""

    def forward(self, x):                              # (B, T, 1)
        last = x[:, -1:]                               # (B, 1, 1)
        return super().forward(x - last) + last[:, 0]  # (B, 1)


# %% 五、Python实现示例：训练过程 | section 5, training: mean squared error and Adam
def train_model(model, train_loader, criterion, optimizer, epochs=100, schedule="constant"):
    """Trains `model` in place; prints every tenth and the last mean loss, returns all (epochs,).

    `train_loader` yields inputs (B, T, input_size) and targets (B, output_size). `schedule`:
    "constant" keeps the optimizer's learning rate; "one-cycle" rises to it and falls to almost
    nothing, a step a batch (PyTorch's OneCycleLR). Raises ValueError for another schedule, and
    FloatingPointError where a loss is not finite.
    """
    if schedule not in ("constant", "one-cycle"):
        raise ValueError(f"no schedule is called {schedule!r}; take constant or one-cycle")
    scheduler = None
    if schedule == "one-cycle":
        peak = optimizer.param_groups[0]["lr"]
        steps = max(2, epochs * len(train_loader))  # with 1, the rate would stay at the bottom
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, steps)
    device = next(model.parameters()).device
    losses = []
    model.train()
    for epoch in range(1, epochs + 1):
        batch_losses = []  # left on the device: to print each one would make every step wait
        for inputs, targets in train_loader:
            inputs = inputs.to(device, non_blocking=True)
            targets = targets.to(device, non_blocking=True)
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
            batch_losses.append(loss.detach())
        losses.append(torch.stack(batch_losses).double().mean().item())
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss is {losses[-1]} in epoch {epoch}; try a lower --lr")
        if epoch % 10 == 0 or epoch == epochs:
            print(f"Epoch [{epoch}/{epochs}], Loss: {losses[-1]:.6e}", flush=True)
    return losses


# %% 五、Python实现示例：评估 | section 5, evaluation: one step ahead, baselines, free-running
def evaluate_model(model, test_loader):
    """Returns predictions and actual values in the loader's order, both (n, output_size)."""
    device = next(model.parameters()).device
    predictions, actuals = [], []
    model.eval()
    with torch.no_grad():
        for inputs, targets in test_loader:
            predictions.append(model(inputs.to(device)))
            actuals.append(targets)
    return torch.cat(predictions).cpu().numpy(), torch.cat(actuals).cpu().numpy()


def baselines(windows, targets, train, test):
    """Predicts the test targets without a network. Returns a dict from name to array (test,).

    Persistence repeats the last value. Linear autoregression is a weighted sum of the window and a
    constant, by least squares on the training windows; on a sine of w radians a step it is exact,
    since sin(a+w) = 2 cos(w) sin(a) - sin(a-w).
    """
    def with_constant(rows):                                          # (rows, T)
        return np.column_stack([rows, np.ones(len(rows))])            # (rows, T + 1)

    weights, *_ = np.linalg.lstsq(with_constant(windows[train]), targets[train], rcond=None)
    return {"persistence": windows[test, -1],
            "linear autoregression": with_constant(windows[test]) @ weights}


def rmse(predictions, actuals):
    """Returns the root mean squared error in their units. Raises ValueError if shapes differ."""
    if predictions.shape != actuals.shape:
        raise ValueError(f"shapes differ: {predictions.shape} and {actuals.shape}")
    return np.sqrt(np.mean((predictions - actuals) ** 2))


def forecast(model, window, steps):
    """Lets `model` run freely: predicts `steps` values, reading its own ones as it goes.

    `window`: the last T values of the series, in the scale of training. Returns float64 (steps,).
    """
    weight = next(model.parameters())
    recent = torch.from_numpy(window).to(weight).view(1, -1, 1)       # (1, T, 1), like the weights
    future = []
    model.eval()
    with torch.no_grad():
        for _ in range(steps):
            newest = model(recent)                                    # (1, 1)
            recent = torch.cat([recent[:, 1:], newest.unsqueeze(1)], dim=1)
            future.append(newest)
    return torch.cat(future)[:, 0].double().cpu().numpy()


# %% 五、Python实现示例：全过程 | section 5, the whole: the article's steps, one after the other
def main(argv=None):
    """Runs the article's steps; `argv`: a list of options, by default the command line's."""
    args = read_options(argv)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False  # on a GPU the LSTM would round its inputs

    # 数据: series, scale (the article: none), windows. RMSEs are in the data's units, losses not.
    series, true_future, name = load_series(args)                 # (n,), (forecast,) or None
    mean, unit = scale_of(series, args.subtract_last) if args.standardise else (0.0, 1.0)
    scaled = (series - mean) / unit                               # (n,)
    windows, targets = create_sequences(scaled, args.seq_length)  # (n - T, T), (n - T,)
    train, test = split_windows(len(windows), args.split)         # indices of windows
    train_loader = make_loader(windows, targets, train, args.batch_size, shuffle=True)
    test_loader = make_loader(windows, targets, test, args.batch_size)

    # 模型
    model_class = SubtractLast if args.subtract_last else LSTMModel
    model = model_class(1, args.hidden_size, args.num_layers, 1).to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    print(describe(args, name, series, mean, unit, train, test, model))

    # 训练
    batches = WithProgress(train_loader, args.epochs)
    losses = train_model(model, batches, nn.MSELoss(), optimizer, args.epochs, args.schedule)
    print(check_by_hand(model, to_tensor(windows[test[:32]]).to(args.device)))

    # 评估: one step ahead beside the baselines, then freely from the last window on.
    predictions, _ = evaluate_model(model, test_loader)           # (test, 1)
    predicted = {type(model.lstm).__name__: predictions[:, 0].astype(np.float64)}  # "LSTM"
    predicted.update(baselines(windows, targets, train, test))
    predicted = {who: values * unit + mean for who, values in predicted.items()}
    test_steps = test + args.seq_length                           # where the targets stand
    print(verdict(predicted, series[test_steps], args.subtract_last))
    future = None
    if args.forecast:
        future = forecast(model, scaled[-args.seq_length:], args.forecast) * unit + mean
        print(describe_forecast(future, true_future))

    # 可视化
    persistence_loss = np.mean((windows[train, -1] - targets[train]) ** 2)
    figure = plot_predictions(new_figure(args.show), name, series, test_steps, predicted, losses,
                              persistence_loss, future, true_future)
    figures = {args.output: figure}
    if args.gates:
        last_window = to_tensor(windows[-1:]).to(args.device)     # (1, T, 1)
        figures[args.gates_file] = plot_memory(new_figure(args.show), model, last_window)
    save_and_show(figures, args, len(series), future)


# =================================== Part 2: the pictures =====================================
# %% 可视化 | figures: predictions, losses, errors
SHOWN = 2000  # steps of a series that a figure shows: about as many as it has pixels across


def new_figure(show):
    """Returns an empty figure: one that a window can show, or one for files alone."""
    size = {"figsize": (11, 7), "layout": "constrained"}  # fits the screen of a laptop
    try:
        return plt.figure(**size) if show else plt.Figure(**size)
    except ImportError as error:  # MPLBACKEND may name a toolkit that is not installed
        print(f"no window: {error}")
        return plt.Figure(**size)


def plot_predictions(figure, name, series, test_steps, predicted, losses, persistence_loss,
                     future=None, true_future=None):
    """Draws the article's view, losses, predictions in time and errors; returns `figure`.

    `predicted`: a dict from name, the model's first, to predictions for `test_steps`, in the order
    of the split, each (test,). `losses` (epochs,) and `persistence_loss`: of training. `future`,
    `true_future`: free run and what really follows, (steps,). Of `series` the end is drawn.
    """
    first = max(0, len(series) - SHOWN)
    shown = test_steps >= first
    test_steps = test_steps[shown]
    predicted = {who: values[shown] for who, values in predicted.items()}
    model_name = next(iter(predicted))
    panels = figure.subplot_mosaic([["article", "loss"], ["time", "time"], ["error", "error"]],
                                   width_ratios=(2, 1))
    panel = panels["article"]  # in the order of the split: where that is random, time jumps about
    panel.plot(series[test_steps], ".-", ms=3, label="Actual Values")
    panel.plot(predicted[model_name], ".--", ms=3, label="Predicted Values")
    panel.set(xlabel="sample", ylabel="value")
    panel.set_title("LSTM prediction results", loc="left")
    panel.set_title(name, loc="right", fontsize="medium", parse_math=False)

    panel = panels["loss"]
    epochs = np.arange(1, len(losses) + 1)
    panel.plot(epochs, losses, "C1.-", ms=4, label=f"training loss, last {losses[-1]:.1e}")
    panel.axhline(persistence_loss, color="C2", ls="--",
                  label=f"persistence's loss, {persistence_loss:.1e}")
    panel.set(title="below the line: beats persistence", yscale="log", xlabel="epoch",
              ylabel="mean squared error", ymargin=0.7)  # room for the legend
    panel.minorticks_off()
    panel.legend(loc="upper right", fontsize="small")

    test_part, predicted_part = np.full((2, len(series)), np.nan)  # nan: no point, no line
    test_part[test_steps] = series[test_steps]
    predicted_part[test_steps] = predicted[model_name]
    steps = np.arange(first, len(series))
    panel = panels["time"]
    panel.plot(steps, series[first:], "lightgray", lw=4, label="training part")
    panel.plot(steps, test_part[first:], "C0.-", ms=5, label="test part")
    panel.plot(steps, predicted_part[first:], "C1.--", ms=3, label="one-step prediction")
    panel.set(title="the same predictions in time", ylabel="value")

    draw_errors(panels["error"], series, test_steps, predicted)
    if future is not None:
        steps = len(series) + np.arange(len(future))
        if true_future is not None:
            panel.plot(steps, true_future, "silver", lw=4, label="true continuation")
            panels["error"].plot(steps, abs(future - true_future), "k--", label="free run")
        panel.plot(steps, future, "k--", label="free run")
    panels["error"].sharex(panels["time"])
    for panel in (panels["article"], panels["time"], panels["error"]):
        panel.margins(y=0.35)  # room for the legend
        panel.legend(loc="upper left", fontsize="small", ncols=5)
    return figure


def draw_errors(panel, series, test_steps, predicted):
    """The absolute errors of all predictions, on a log axis that the smallest do not squash."""
    errors = {who: abs(values - series[test_steps]) for who, values in predicted.items()}
    lowest = 1e-4 * max(error.max() for error in errors.values()) or np.finfo(float).tiny
    for k, (who, error) in enumerate(errors.items(), start=1):
        panel.plot(test_steps, np.maximum(error, lowest), f"C{k}.", ms=4, label=who)
    panel.set(title="errors: lower is better; below a ten-thousandth of the largest they lie on "
              "the bottom line", yscale="log", xlabel="time step", ylabel="absolute error")
    panel.minorticks_off()


# %% 记忆细胞 | figures: what the cell remembers, and what it forgets
def what_the_lstm_reads(model, inputs):
    """Returns what reaches `model.lstm` of `inputs` (B, T, 1): the model may change them first."""
    seen = []  # the model is not asked what it does to its inputs: a hook sees what arrives
    hook = model.lstm.register_forward_pre_hook(lambda lstm, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        model(inputs)
    hook.remove()
    return seen[0]                                                # (B, T, input_size)


def check_by_hand(model, inputs):
    """Returns, as text, how far `lstm_by_hand` is from `nn.LSTM` on `inputs` (B, T, 1)."""
    if not isinstance(model.lstm, nn.LSTM):
        return "the equations by hand are an LSTM's: nothing to compare them with"
    x = what_the_lstm_reads(model, inputs)
    with torch.no_grad():
        difference = (lstm_by_hand(model.lstm, x)["h"] - model.lstm(x)[0]).cpu().abs().max()
    return f"the equations by hand differ from nn.LSTM by at most {difference:.1e}"


def what_is_left(gates):
    """Returns what entered at step s and is left at step t, (T, T); `gates`: (T,) a letter.

    A column t is c = f * c + i * g with its terms kept apart: it adds up to c. Before s: nan.
    """
    T = len(gates["f"])
    left = np.full((T, T), np.nan)
    for t in range(T):
        left[:t, t] = gates["f"][t] * left[:t, t - 1]   # of what entered before, f is kept
        left[t, t] = gates["i"][t] * gates["g"][t]      # and this enters
    return left


def plot_memory(figure, model, window):
    """Draws what one unit remembers of `window` (1, T, 1); returns `figure`.

    Left as trained; right with the same weights, not trained anew, but the forget gate's bias
    raised by 5. The unit weighs most in the prediction: the head's weight times h at the end.
    """
    x = what_the_lstm_reads(model, window)                        # (1, T, 1)
    opened = copy.deepcopy(model.lstm)
    last_layers_bias = opened.all_weights[-1][2]                  # (4 H,): of i, f, g, o
    with torch.no_grad():
        last_layers_bias.chunk(4)[1].add_(5)
        left, right = lstm_by_hand(model.lstm, x), lstm_by_hand(opened, x)
        weights = model.fc.weight[0] * left["h"][0, -1]           # (H,)
    unit = weights.cpu().abs().argmax().item()
    left = {letter: values[0, :, unit].cpu().numpy() for letter, values in left.items()}
    right = {letter: values[0, :, unit].cpu().numpy() for letter, values in right.items()}
    panels = figure.subplots(4, 2, sharex=True, sharey="row", height_ratios=(2, 3, 3, 6))
    read = x[0, :, 0].cpu().numpy()                               # (T,)
    strongest = max(np.nanmax(abs(what_is_left(gates))) for gates in (left, right))
    draw_memory(panels[:, 0], "as trained", read, left, strongest)
    image = draw_memory(panels[:, 1], "forget gate forced open, rest kept", read, right, strongest)
    figure.colorbar(image, ax=panels[3], label="what is left of it")
    for row, label in enumerate(["value", "gates", "states", "step at which it entered"]):
        panels[row, 0].set_ylabel(label)
    figure.suptitle(f"What unit {unit + 1} of {len(weights)}, the one that weighs most in the "
                    "prediction, remembers of the last window")
    figure.supxlabel("Map: a row is what entered at one step, and how much of it is left later; a "
                     "column adds up to c.\nThe nearer f is to 1, the longer a row's colour lasts.")
    return figure


def draw_memory(panels, title, read, gates, strongest):
    """Draws one side of the memory picture; returns the image of its map."""
    steps = np.arange(1, len(read) + 1)
    panels[0].plot(steps, read, "k.-", label="what the LSTM reads")
    panels[1].plot(steps, gates["i"], "C0.-", label="input gate i")
    panels[1].plot(steps, gates["f"], "C1.-", lw=3, label="forget gate f")
    panels[1].plot(steps, gates["o"], "C2.-", label="output gate o")
    panels[2].plot(steps, gates["c"], "C4.-", label="cell state c")
    panels[2].plot(steps, gates["h"], "C5.-", label="hidden state h")
    image = panels[3].imshow(what_is_left(gates), "RdBu_r", vmin=-strongest, vmax=strongest,
                             extent=(0.5, steps[-1] + 0.5, steps[-1] + 0.5, 0.5), aspect="auto")
    panels[3].set(facecolor="silver", xlabel="time step")         # where nothing has entered yet
    panels[0].set_title(title)
    panels[3].set_title(f"f is {gates['f'].mean():.3f} on average: {gates['f'][1:].prod():.1%} of "
                        "what entered first is left", fontsize="medium")
    for panel in panels[:3]:
        panel.margins(y=0.5)  # room for the legend
        panel.legend(fontsize="small", ncols=3)
    panels[1].set_ylim(-0.6, 1.1)
    return image


# %% 中文 | figures: Chinese labels where a font can draw them
CHINESE = {  # each # stands for a number, each {} for the same one
    "sample": "样本", "value": "值", "time step": "时间步", "epoch": "训练轮次",
    "LSTM prediction results": "LSTM预测结果", "# cycles of a sine": "{} 个周期的正弦波",
    "Mackey-Glass series, chaotic: any forecast leaves it after a while":
        "Mackey-Glass 混沌序列：任何预测迟早会偏离它",
    "training loss, last #": "训练损失，最后 {}", "mean squared error": "均方误差",
    "persistence's loss, #": "“重复上一个值”的损失 {}", "absolute error": "绝对误差",
    "below the line: beats persistence": "低于虚线：比“重复上一个值”更好",
    "the same predictions in time": "同样的预测（按时间顺序）", "one-step prediction": "单步预测",
    "training part": "训练部分", "test part": "测试部分", "true continuation": "真实延续",
    "free run": "自由运行预测", "as trained": "训练所得",
    "persistence": "重复上一个值", "linear autoregression": "线性自回归",
    "errors: lower is better; below a ten-thousandth of the largest they lie on the bottom line":
        "误差：越低越好；小于最大值万分之一的画在底线上",
    "What unit # of #, the one that weighs most in the prediction, remembers of the last window":
        "第 {} 个单元（共 {} 个，在预测中权重最大）对最后一个窗口的记忆",
    "forget gate forced open, rest kept": "遗忘门被强制打开，其余权重不变",
    "f is # on average: #% of what entered first is left":
        "f 平均为 {}：最先进入的信息最后还剩 {}%",
    "what the LSTM reads": "LSTM 读到的值", "gates": "门", "states": "状态",
    "input gate i": "输入门 i", "forget gate f": "遗忘门 f", "output gate o": "输出门 o",
    "cell state c": "记忆细胞状态 c", "hidden state h": "隐藏状态 h",
    "step at which it entered": "进入的时间步", "what is left of it": "还剩多少",
    "Map: a row is what entered at one step, and how much of it is left later; a column adds up to "
    "c.\nThe nearer f is to #, the longer a row's colour lasts.":
        "色块图：一行是某一步进入的信息，之后各步还剩多少；一列之和就是 c。\n"
        "f 越接近 {}，一行的颜色保持得越久。",
}
FONTS = ("SimHei", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "Heiti TC",
         "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Arial Unicode MS")


def label_figure(figure, language, font):
    """Translates a finished figure's labels for "zh"; where there is no `font`, draws no boxes."""
    number = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
    for text in figure.findobj(Text):
        label = text.get_text()
        english = re.sub(number, "#", label)
        if font is None:
            text.set_text(label.encode("ascii", "backslashreplace").decode())
        elif language == "zh" and english in CHINESE:
            text.set_text(CHINESE[english].format(*re.findall(number, label)))
        if not text.get_text().isascii():
            text.set_fontfamily(["DejaVu Sans", font])


# =================================== Part 3: the rest, none of it about LSTMs =================
# %% 其他序列 | other series: Mackey-Glass, and your own
def mackey_glass(length):
    """Returns the Mackey-Glass series, float64 (length,), a point every 6 units of time.

    dx/dt = 0.2 x(t-17) / (1 + x(t-17)^10) - 0.1 x(t), x = 1.2 before the start (Mackey & Glass
    1977), by Euler's steps of 0.1, without the first 500 units. It is chaotic and not linear.
    """
    x = [1.2] * 171                   # x(-17) to x(0), in steps of 0.1
    for _ in range(5000 + 60 * (length - 1)):
        delayed = x[-171]             # x(t - 17), where x[-1] is x(t)
        x.append(x[-1] + 0.1 * (0.2 * delayed / (1 + delayed**10) - 0.1 * x[-1]))
    return np.array(x[5170::60])      # from x(500) on


def is_name(cell):
    """Tells whether a cell can be a column's name: not empty, and not a number (nan is one)."""
    try:
        float(cell)
    except ValueError:
        return cell != ""
    return False


def choose_column(names, column):
    """Returns a column's index, and whether the first line, cut into `names`, does hold names."""
    if column is None and len(names) == 1:
        return 0, is_name(names[0])
    if column and column.isdecimal() and 1 <= int(column) <= len(names):
        return int(column) - 1, is_name(names[int(column) - 1])
    if names.count(column) == 1:
        return names.index(column), True
    listed = ", ".join(names[:20]) + ", ..." * (len(names) > 20)
    raise ValueError(f"choose one of its {len(names)} columns by --column: {listed}")


def read_series(path, column=None):
    """Reads one column of a text file. Returns the series, float64 (n,), and the column's name.

    Columns are separated by the one of tab, semicolon and comma that the first line has most of;
    where there are several, `column` chooses. Every cell of the column must be a finite number;
    the first may be its name. Raises OSError, and ValueError with what is wrong, and where.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError:
        raise ValueError("this is not UTF-8 text; save the series as CSV in UTF-8") from None
    separator = max("\t;,", key=lines[0].count)
    names = [name.strip() for name in next(csv.reader(lines[:1], delimiter=separator))]
    k, header = choose_column(names, column)
    values, line, rows = [], 1, csv.reader(lines, delimiter=separator, strict=True)
    try:
        for row in rows:
            if len(row) != len(names):
                raise ValueError(f"{len(row)} columns where the first line has {len(names)}")
            if line > 1 or not header:
                values.append(float(row[k]))
                if not math.isfinite(values[-1]):
                    raise ValueError(f"no finite number: {row[k]!r}")
            line = rows.line_num + 1
    except (csv.Error, ValueError) as error:
        raise ValueError(f"line {line}: {str(error)[:99]}; fill gaps, write decimal points and no "
                         "other signs, or take the line out") from None
    return np.array(values), names[k] if header else f"{k + 1}"


def scale_of(series, of_changes=False):
    """Returns mean and unit of the first 80 %: standard deviation, or the RMS of its changes."""
    start = series[:int(0.8 * len(series))]  # a test at the end sets no scale
    unit = rmse(start[1:], start[:-1]) if of_changes else start.std()
    return start.mean(), unit


def load_series(args):
    """Returns the series (n,), what truly follows (forecast,) or None for a file, and its name."""
    if args.data is not None:
        try:
            series, column = read_series(args.data, args.column)
        except (OSError, ValueError) as error:
            refuse(f"--data {args.data!r} cannot be used: {error}")
        true_future, name = None, f"{args.data}, column {column}"
    elif args.series == "mackey-glass":
        series, true_future = np.split(mackey_glass(args.length + args.forecast), [args.length])
        name = "Mackey-Glass series, chaotic: any forecast leaves it after a while"
    else:
        everything = generate_sequence(args.length, args.freq, args.forecast)
        series, true_future = np.split(everything, [args.length])
        name = f"{args.freq:g} cycles of a sine"
    if len(series) < args.seq_length + 2:
        refuse(f"{len(series)} points hold no two windows of {args.seq_length} with a target, to "
               "train on and to test; take a longer series or a smaller --seq-length")
    if args.standardise and not 1e-100 < np.ptp(series[:int(0.8 * len(series))]) < 1e100:
        refuse(f"{name}: the first 80 % are constant, or vary by less than 1e-100 or over 1e100")
    return series, true_future, name


# %% 输出 | what is printed
def describe(args, name, series, mean, unit, train, test, model):
    """Returns, as text, what will be trained on what."""
    seen = np.zeros(len(series), dtype=bool)
    for offset in range(args.seq_length + 1):  # every step of a training window, and its target
        seen[train + offset] = True
    test_steps = test + args.seq_length
    actual = series[test_steps]
    outside = (actual < series[seen].min()) | (actual > series[seen].max())
    rnn = nn.RNN(1, args.hidden_size, args.num_layers, device="meta")  # sizes only, nothing drawn
    lstm_size, rnn_size, head_size = (
        sum(map(torch.numel, part.parameters())) for part in (model.lstm, rnn, model.fc))
    lines = [
        f"device: {args.device}, CPU threads: {torch.get_num_threads()}, seed: {args.seed}",
        f"data: {name}, {len(series):,} points",
        f"split: {args.split}, {len(train):,} training and {len(test):,} test windows of "
        f"{args.seq_length}; {seen[test_steps].sum():,} of {len(test):,} test targets were also "
        "in training windows",
        f"parameters: {type(model.lstm).__name__} {lstm_size:,} (a plain RNN of its size "
        f"{rnn_size:,}), head {head_size:,}" + ", on the change alone" * args.subtract_last]
    if outside.any():
        lines.append(f"range: {outside.sum():,} of {len(test):,} test targets lie outside the "
                     "range of the training part")
    if args.standardise:
        lines.append(f"scale: (value - {mean:.6g}) / {unit:.6g}; losses are in this scale, "
                     "RMSEs in the units of the data")
    return "\n".join(lines)


def verdict(predicted, actual, subtract_last):
    """Returns, as text, the errors of all `predicted` (name to values (test,)) and who wins."""
    errors = {who: rmse(values, actual) for who, values in predicted.items()}
    text = "test RMSE: " + ", ".join(f"{who} {error:.6e}" for who, error in errors.items()) + "\n"
    if not np.isfinite(list(errors.values())).all():
        return text + "An error is not a finite number: nothing wins."
    model, *others = errors
    rounding = 1e-12 * abs(actual).max()  # float64 keeps some 16 digits
    comparisons = [
        f"{errors[model] / errors[who]:.3g} times as much as {who}" if errors[who] > rounding
        else f"more than {who}, which is exact but for rounding" for who in others]
    winner = min(errors, key=errors.get)
    text += f"The {model} errs {' and '.join(comparisons)}: {winner} wins."
    if subtract_last or errors[model] <= errors["persistence"]:
        return text
    return text + (f"\nWhy it loses to persistence: one step moves the series by only "
                   f"{errors['persistence']:.2e}, and the {model}, which has to hit the level too, "
                   f"misses by {errors[model]:.2e}; --subtract-last lets it predict the change.")


def describe_forecast(future, true_future):
    """Returns, as text, how the free run (steps,) begins, and its error where that is known."""
    text = f"forecast: {len(future):,} free-running steps, the first {future[0]:.6g}"
    if true_future is not None:
        text += f"\nforecast RMSE against what truly follows: {rmse(future, true_future):.6e}"
    return text


class WithProgress:
    """Passes a loader's batches on and says on stderr, where that is a terminal, what is left."""

    def __init__(self, loader, epochs):
        self.loader = loader
        self.steps = epochs * len(loader)
        self.done = 0
        self.began = time.monotonic()
        self.due = self.began + 2 if sys.stderr and sys.stderr.isatty() else math.inf  # seconds

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for batch in self.loader:
            yield batch
            self.done += 1
            now = time.monotonic()
            if now > self.due:
                left = (now - self.began) / self.done * (self.steps - self.done)
                print(f"{self.done / self.steps:4.0%}, {left:.0f} s left   ", end="\r",
                      file=sys.stderr, flush=True)
                self.due = now + 0.5


# %% 保存 | saving
@contextmanager
def whole_file(path):
    """Gives a path to write to; what is written there replaces `path`, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder, path.name)
        yield part
        part.replace(path)


def save_and_show(figures, args, first_step, future):
    """Saves the `figures`, a dict from path to figure, and the forecast; shows them on a screen."""
    installed = font_manager.fontManager.get_font_names()
    font = next((font for font in FONTS if font in installed), None)
    if args.lang == "zh" and font is None:
        print("labels: English, since no font on this machine can draw Chinese ones")
    for path, figure in figures.items():
        label_figure(figure, args.lang, font)
        with whole_file(path) as part:
            figure.savefig(part, dpi=100)
        print(f"figure: {path}")
    if future is not None:
        steps = first_step + np.arange(len(future))
        with whole_file(args.forecast_file) as part:
            np.savetxt(part, np.column_stack([steps, future]), fmt=("%d", "%.12g"), delimiter=",",
                       header="step,forecast", comments="")
        print(f"forecast: {args.forecast_file}")
    if figure.canvas.manager and plt.get_backend().lower() != "agg":
        plt.show()
    for figure in figures.values():
        plt.close(figure)


# %% 参数 | options: each default is the article's value
def refuse(message):
    """Ends the run, before anything was trained or written: one line on stderr, status 2."""
    print(f"lstm_sine.py: error: {message}", file=sys.stderr)
    sys.exit(2)


def bounded(kind, low, high):
    """Returns an argparse type: an int or float from `low` to `high`."""
    def parse(text):
        if low <= kind(text) <= high:
            return kind(text)
        raise ValueError
    parse.__name__ = f"{kind.__name__} ({low} to {high})"  # argparse names it where it says no
    return parse


def working_device(text):
    """An argparse type: a device that works here; auto is CUDA where there is one."""
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if not text.startswith(("cpu", "cuda")):
            raise RuntimeError("take auto, cpu, cuda or cuda:N")
        return torch.zeros(1, device=text).device
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"{text!r} does not work here: {reason}") from None


def figure_file(text):
    """An argparse type: the path of a figure, in a folder that lets one write under such a name."""
    path = Path(text)
    if path.suffix.lower() not in (".png", ".pdf", ".svg") or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} does not name a .png, .pdf or .svg file")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            Path(folder, f"{path.stem}_forecast.csv").touch()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: {error.strerror}") from None
    return path


def command_line():
    """Returns the parser of the options."""
    parser = argparse.ArgumentParser(
        prog="lstm_sine.py", allow_abbrev=False, description="An LSTM learns the next value of a "
        "series, as in the article. Values in brackets are the defaults: the article's.")
    parser.error = lambda message: refuse(f"{message} (--help lists the options)")
    count = bounded(int, 1, 10**8)
    group = parser.add_argument_group("data")
    add = group.add_mutually_exclusive_group().add_argument
    add("--series", choices=("sine", "mackey-glass"), default="sine", help="which one [sine]")
    add("--data", metavar="FILE", help="a text file with a series of your own")
    add = group.add_argument
    add("--column", help="of the file: its name, or its number from 1 [the only one]")
    add("--length", type=bounded(int, 3, 10**8), default=1000, help="points [1000]")
    add("--freq", type=bounded(float, 1e-6, 1e8), default=0.1, help="cycles of the sine [0.1]")
    add = parser.add_argument_group("windows").add_argument
    add("--seq-length", type=count, default=10, help="points a window [10]")
    add("--split", choices=("random", "time"), help="into 80 %% and a test [random; --data: time]")
    add = parser.add_argument_group("model").add_argument
    add("--hidden-size", type=bounded(int, 1, 10**4), default=50, help="units a layer [50]")
    add("--num-layers", type=bounded(int, 1, 100), default=1, help="LSTM layers [1]")
    add("--subtract-last", action=argparse.BooleanOptionalAction,
        help="predict the change from the last value, a typical one as 1 [no; --data: yes]")
    add = parser.add_argument_group("training").add_argument
    add("--epochs", type=count, default=50, help="passes over the training windows [50]")
    add("--batch-size", type=count, default=32, help="windows a step [32]")
    add("--lr", type=bounded(float, 1e-12, 1e30), default=0.001, help="learning rate [0.001]")
    add("--schedule", choices=("constant", "one-cycle"), default="constant",
        help="of the rate; one-cycle rises to --lr and falls to almost nothing [constant]")
    add("--seed", type=bounded(int, 0, 2**64 - 1), default=42, help="of all random draws [42]")
    add("--device", type=working_device, default="auto", help="cpu, cuda, cuda:N or auto [auto]")
    add("--threads", type=bounded(int, 1, os.cpu_count()), help="[1; more for large steps]")
    add = parser.add_argument_group("results").add_argument
    add("--forecast", type=bounded(int, 1, 10**6), default=0, metavar="STEPS",
        help="free-running steps past the end, also saved as NAME_forecast.csv [none]")
    add("--gates", action="store_true", help="also draw what the cell remembers: NAME_gates")
    add("--output", type=figure_file, default="lstm_sine.png", help="the figure [lstm_sine.png]")
    add("--no-show", dest="show", action="store_false", help="open no window")
    add("--lang", choices=("zh", "en"), default="zh", help="of the labels [zh if a font has it]")
    return parser


def read_options(argv):
    """Returns the options, completed by what follows from them; refuses what contradicts itself."""
    args = command_line().parse_args(argv)
    own = args.data is not None
    if args.column is not None and not own:
        refuse("--column names a column of a file; give the file with --data")
    args.split = args.split or ("time" if own else "random")
    args.subtract_last = own if args.subtract_last is None else args.subtract_last
    args.standardise = own or args.series != "sine" or args.subtract_last
    args.gates_file = args.output.with_stem(f"{args.output.stem}_gates")
    args.forecast_file = args.output.with_name(f"{args.output.stem}_forecast.csv")
    files = args.output, args.gates_file, args.forecast_file
    if own and Path(args.data).resolve() in [file.resolve() for file in files]:
        refuse(f"{args.data} would be written over; give another --output")
    if args.threads is None:  # small steps gain nothing from a second thread, other programs do
        large = args.batch_size * args.hidden_size**2 >= 10**6
        args.threads = torch.get_num_threads() if large else 1
    return args


# %% 启动 | start
def start():
    """Runs `main` as a program: what its user can cause ends in one line, never in a traceback."""
    stdout, errors = sys.stdout, getattr(sys.stdout, "errors", None)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up, as for Ctrl-C
    try:
        if hasattr(stdout, "reconfigure"):  # an old console escapes what it cannot show
            stdout.reconfigure(errors="backslashreplace")
        main()
        print(end="", flush=True)
    except BrokenPipeError:  # the reader of the pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        print("lstm_sine.py: interrupted", file=sys.stderr)
        sys.exit(130)
    except (FloatingPointError, OSError) as error:
        sys.exit(f"lstm_sine.py: error: {error}")
    except (MemoryError, RuntimeError) as error:  # PyTorch has no MemoryError of its own
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        sys.exit("lstm_sine.py: error: not enough memory; take a smaller model, batch or window")
    finally:
        signal.signal(signal.SIGTERM, before)
        if hasattr(stdout, "reconfigure"):
            stdout.reconfigure(errors=errors)


if __name__ == "__main__":
    start()
