"""An LSTM learns a sine series: the article's experiment to the digit, then what its numbers are worth.

    python lstm_sine.py             the article's experiment: trains, prints the losses, draws lstm_sine.png
    python lstm_sine.py --freq 10 --split time --seq-length 6 --epochs 100 --schedule one-cycle --lr 0.02 \
                        --forecast 1000 --gates        a whole wave, ten cycles of forecast, a look at the gates

Read it beside the article 长短期记忆（LSTM）网络模型: the rulers below carry its headings; generate_sequence,
create_sequences, LSTMModel, train_model and evaluate_model have its names and arguments.

What differs from the article's listing, and why:
* Windows are views of the series and batches are cut out whole: the same random draws and digits, without copies.
* Losses print with seven digits, since four show only zeros; they add up on the device, so no step waits for them.
* Two baselines stand beside the LSTM, since a small loss alone does not say that anything was learned.
* The figure is saved, and shown where there is a screen; below the article's view stand the predictions in time.
* The listing's constants are options, the device is the model's own, and importing the module only defines.
"""
import argparse
import math
import os
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import font_manager
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset


# ---- 五、Python实现示例: 数据生成 | section 5, data: a series, its windows, their split ----------------------------
def generate_sequence(length, freq=0.1):
    """Returns `length` points of a sine, float64 (length,); `freq` is in cycles over the whole series."""
    return np.sin(np.linspace(0, 2 * np.pi * freq, length))


def read_series(path, column=None):
    """Reads a series from a text file: a number a line, or comma-separated columns, with or without a header.

    `column`: a name in the header or a number from 1; without it the one column of numbers. Returns its values, float64
    (n,), and its name. Raises OSError where the file cannot be read, ValueError with line and remedy for its content.
    """
    def number(cell):
        try:
            return float(cell or "nan")
        except ValueError:
            return math.inf  # text, unlike a gap, may be a name in the header

    csv = dict(delimiter=",", quotechar='"', comments=None, encoding=None)
    try:
        with open(path, encoding="utf-8-sig") as file:  # numpy skips empty lines: an empty cell in each keeps the count
            lines = [line or '""' for line in file.read().rstrip().split("\n")]
        table = np.loadtxt(lines, converters=number, ndmin=2, **csv)  # (lines, columns)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text; save the series as comma-separated text in UTF-8") from None
    except ValueError as error:  # numpy names the row where the number of columns changes
        raise ValueError(f"{str(error).split(';')[0]}; give every line the same columns") from None
    known = np.isfinite(table)
    numeric = [k for k in range(table.shape[1]) if known[:, k].mean() >= 0.5]
    header = int(np.isinf(table[0, numeric]).any())  # 1 where the first line holds names
    names = [name.strip() if header else str(k + 1)
             for k, name in enumerate(np.loadtxt(lines[:1], dtype=str, ndmin=1, **csv))]
    chosen = numeric if column is None else [k for k, name in enumerate(names) if column in (name, str(k + 1))]
    if len(chosen) != 1:
        raise ValueError(f"{len(chosen) or 'no'} columns {'of numbers' if column is None else repr(column)}; separate "
                         f"columns by commas, choose one with --column: {', '.join(names[k] for k in numeric) or 'none'}")
    gaps = np.flatnonzero(~known[header:, chosen[0]]) + header
    if gaps.size:
        line = gaps[0]
        raise ValueError(f"line {line + 1}: no number in column {names[chosen[0]]} ({lines[line][:40]!r}); "
                         "fill the gap or take the line out")
    return table[header:, chosen[0]], names[chosen[0]]


def create_sequences(data, seq_length):
    """Cuts a series into windows of `seq_length` points, each with the point after it as its target.

    `data`: array or tensor (n,). Returns views of it: windows (n - seq_length, seq_length) and targets
    (n - seq_length,). Raises ValueError where no window with a target fits.
    """
    if not 1 <= seq_length < len(data):
        raise ValueError(f"no window of {seq_length} with a target fits into {len(data)} points; take a longer series "
                         f"or windows of 1 to {len(data) - 1}")
    if isinstance(data, torch.Tensor):
        windows = data.unfold(0, seq_length, 1)
    else:  # writeable, because PyTorch warns of arrays that are not
        windows = np.lib.stride_tricks.sliding_window_view(data, seq_length, writeable=True)
    return windows[:-1], data[seq_length:]


def split_windows(count, split="random"):
    """Splits the window numbers 0 to count - 1 into 80 % for training and the rest for the test.

    "random" draws as `torch.utils.data.random_split` does; "time" trains on the first, so that every training target
    lies before every test target. Returns two tensors. Raises ValueError where one of them would be empty.
    """
    if count < 2:
        raise ValueError("a single window cannot be split; take a longer series or a shorter window")
    order = torch.randperm(count) if split == "random" else torch.arange(count)
    return order.tensor_split([int(0.8 * count)])


def leakage(train, test, seq_length):
    """Returns the share, 0 to 1, of the test targets that also stand inside a training window."""
    inside = np.zeros(len(train) + len(test) + seq_length + 1)  # each training window adds 1 where it begins
    inside[train] += 1                                          # and takes it away after its end
    inside[train + seq_length] -= 1
    return np.mean(inside.cumsum()[test + seq_length] > 0)


# ---- 五、Python实现示例: 模型定义 | section 5, model: an LSTM layer and a linear head ------------------------------
class LSTMModel(nn.Module):
    """Predicts the next value: an `nn.LSTM`, and a linear head on its last hidden state."""

    def __init__(self, input_size=1, hidden_size=50, num_layers=1, output_size=1):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_size, output_size)

    def forward(self, x):           # (B, T, input_size)
        out, _ = self.lstm(x)       # (B, T, hidden_size); h and c start at zero, as the article sets them
        return self.fc(out[:, -1])  # (B, output_size)


# ---- 二、模型原理 | section 2, how it works: the same LSTM by hand, a line an equation -----------------------------
def lstm_by_hand(lstm, x):
    """Runs the weights of an `nn.LSTM` through the equations of the article's section 2 and returns every gate.

    `lstm`: batch_first, one direction, with biases; `x`: (B, T, input_size). Returns a dict from each of the letters
    i, f, g, o, c, h to a tensor (layers, B, T, H). Letters as on PyTorch's nn.LSTM page: W_if leads from the input to f,
    W_hf from the last h to f. Sources: Hochreiter & Schmidhuber 1997 (c, i, o) and Gers et al. 2000 (f).
    """
    layers = []
    for k in range(lstm.num_layers):
        W_ii, W_if, W_ig, W_io = getattr(lstm, f"weight_ih_l{k}").chunk(4)  # each (H, input_size), above layer 0 (H, H)
        W_hi, W_hf, W_hg, W_ho = getattr(lstm, f"weight_hh_l{k}").chunk(4)  # each (H, H)
        b_i, b_f, b_g, b_o = (getattr(lstm, f"bias_ih_l{k}") + getattr(lstm, f"bias_hh_l{k}")).chunk(4)  # each (H,)
        h = c = x.new_zeros(len(x), lstm.hidden_size)            # (B, H)
        steps = []
        for x_t in x.unbind(dim=1):                              # (B, input_size)
            i = torch.sigmoid(x_t @ W_ii.T + h @ W_hi.T + b_i)   # 输入门 input gate: how much may enter
            f = torch.sigmoid(x_t @ W_if.T + h @ W_hf.T + b_f)   # 遗忘门 forget gate: how much is kept
            g = torch.tanh(x_t @ W_ig.T + h @ W_hg.T + b_g)      # 候选值 candidate: what may enter
            o = torch.sigmoid(x_t @ W_io.T + h @ W_ho.T + b_o)   # 输出门 output gate: how much shows
            c = f * c + i * g                                    # 记忆细胞 cell state: forget, then admit
            h = o * torch.tanh(c)                                # 隐藏状态 hidden state: what shows
            steps.append(torch.stack([i, f, g, o, c, h]))        # (6, B, H)
        layers.append(torch.stack(steps, dim=2))                 # (6, B, T, H)
        x = layers[-1][-1]                                       # h is what the next layer reads
    return dict(zip("ifgoch", torch.stack(layers, dim=1)))


# ---- 五、Python实现示例: 训练过程 | section 5, training: mean squared error and Adam -------------------------------
def train_model(model, train_loader, criterion, optimizer, epochs=100, schedule="constant", report=print):
    """Trains `model` in place and returns the mean loss of every epoch.

    `train_loader` yields inputs (B, T, input_size) and targets (B, output_size). `schedule`: "constant" keeps the
    optimizer's learning rate, "one-cycle" makes it the peak of OneCycleLR, a step a batch. `report` gets the
    article's line every tenth epoch and after the last. Raises FloatingPointError where the loss is not finite.
    """
    device = next(model.parameters()).device
    scheduler = None if schedule == "constant" else OneCycleLR(
        optimizer, optimizer.param_groups[0]["lr"], total_steps=epochs * len(train_loader))
    losses = []
    model.train()
    for epoch in range(1, epochs + 1):
        total_loss = torch.zeros((), dtype=torch.float64, device=device)  # on the device: .item() would wait each step
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs.to(device)), targets.to(device))
            loss.backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
            total_loss += loss.detach()
        losses.append(total_loss.item() / len(train_loader))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss is {losses[-1]} in epoch {epoch}; try a lower learning rate (--lr)")
        if epoch % 10 == 0 or epoch == epochs:
            report(f"Epoch [{epoch}/{epochs}], Loss: {losses[-1]:.6e}")
    return losses


# ---- 五、Python实现示例: 评估 | section 5, evaluation: one step ahead, baselines, free-running ---------------------
def evaluate_model(model, test_loader):
    """Returns the model's predictions and the actual values in the loader's order, each an array (n, output_size)."""
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        pairs = [(model(inputs.to(device)), targets) for inputs, targets in test_loader]
    return tuple(torch.cat(column).cpu().numpy() for column in zip(*pairs))


def baselines(x, y, train):
    """Predicts all targets without a network: returns persistence and linear autoregression, each an array (n,).

    `x`: windows (n, T); `y`: targets (n,); `train`: numbers of the training windows. Persistence repeats the last value.
    The autoregression weights the window by least squares on the training windows, and is exact on a sine of w radians
    a step: x[t+1] = 2 cos(w) x[t] - x[t-1].
    """
    columns = np.column_stack([x[train], np.ones(len(train))])  # (train, T + 1): this copy is what the fit costs
    weights = np.linalg.lstsq(columns, y[train], rcond=None)[0]
    return x[:, -1], x @ weights[:-1] + weights[-1]


def rmse(predictions, actuals):
    """Returns the root mean squared error, in the units of the data."""
    return np.sqrt(np.mean((predictions - actuals) ** 2))


def forecast(model, window, steps):
    """Lets `model` run freely: array (steps,) of predictions, each fed back as the newest value of the window.

    `window`: the last T values of the series, in the units of training. The model's mode is left as it was.
    """
    weight, training = next(model.parameters()), model.training
    values = torch.cat([torch.as_tensor(window).to(weight), weight.new_empty(steps)])  # (T + steps,)
    model.eval()
    with torch.no_grad():
        for t in range(steps):
            values[len(window) + t] = model(values[t:t + len(window)].view(1, -1, 1)).squeeze()
    model.train(training)
    return values[len(window):].cpu().numpy()


# ---- 五、Python实现示例: 可视化 | section 5, figures ---------------------------------------------------------------
SHOWN = 2000  # steps that a figure shows at most: about as many as it has pixels across
CHINESE = {
    "LSTM prediction results": "LSTM预测结果", "sample": "样本", "value": "值", "time step": "时间步", "|error|": "|误差|",
    "test windows, in the order of the split": "测试样本（按划分顺序）", "the same predictions in time": "同样的预测（按时间顺序）",
    "training part": "训练部分", "test part": "测试部分", "one-step prediction": "单步预测", "true continuation": "真实延续",
    "free-running forecast": "自由运行预测", "errors: lower is better": "误差（越低越好）", "persistence": "重复上一个值",
    "input gate": "输入门", "forget gate": "遗忘门", "candidate": "候选值", "output gate": "输出门", "input": "输入",
    "cell state": "记忆细胞状态", "hidden state": "隐藏状态", "unit": "单元", "test window, in time": "测试窗口（按时间）",
    "The LSTM at the last step of each test window": "每个测试窗口最后一步的LSTM",
    "A row is a unit; each map has those on top that rise most with the input. The brighter i, f, o, the more open.":
        "每行一个单元；各图中越靠上的单元越随输入上升。i、f、o 越亮，门开得越大。",
}


def chinese_font():
    """Returns the name of an installed font that can draw the Chinese labels, or None."""
    text = set("".join(CHINESE.values()))
    usual = "SimHei", "Microsoft YaHei", "PingFang SC", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei"
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: font.name not in usual):
        if os.path.exists(font.fname):  # placeholder fonts have one glyph, a box, for many characters
            glyphs = set(map(font_manager.get_font(font.fname).get_char_index, map(ord, text)))
            if 0 not in glyphs and len(glyphs) == len(text):
                return font.name
    return None


def plot_predictions(series, at, predictions, future=None, truth=None, say=str):
    """Returns the article's figure and, below it, the same predictions in time and their errors.

    `series`: (n,), of which the last `SHOWN` steps are drawn; `at`: positions of the `predictions`, both (tests,), in the
    order of the split; `future`: forecast (steps,), `truth`: what follows indeed (steps,); `say` translates the labels.
    """
    steps = np.arange(len(series))[-SHOWN:]
    figure, (article, wave, error) = plt.subplots(3, figsize=(12, 9), layout="constrained", height_ratios=(3, 3, 2))
    article.plot(series[at[:SHOWN]], label="Actual Values")
    article.plot(predictions[:SHOWN], "--", label="Predicted Values")
    article.set(title=say("LSTM prediction results"), xlabel=say("sample"), ylabel=say("value"))
    article.set_title(say("test windows, in the order of the split"), loc="right", fontsize="small")

    at, predictions = at[at >= steps[0]], predictions[at >= steps[0]]
    tested = np.isin(steps, at)
    wave.plot(steps, np.where(tested, np.nan, series[steps]), "lightgray", lw=4, label=say("training part"))
    wave.plot(steps, np.where(tested, series[steps], np.nan), ".-", ms=7, label=say("test part"))
    wave.plot(at, predictions, ".", ms=2, label=say("one-step prediction"))
    error.plot(at, abs(predictions - series[at]), "C1.", ms=3, label="LSTM")
    error.plot(at, abs(series[at - 1] - series[at]), "k.", ms=3, label=say("persistence"))
    if future is not None:
        ahead = np.arange(len(series), len(series) + len(future))[:SHOWN]
        if truth is not None:
            wave.plot(ahead, truth[:SHOWN], "k", lw=0.7, label=say("true continuation"))
            error.plot(ahead, abs(future - truth)[:SHOWN], "C3--", label=say("free-running forecast"))
        wave.plot(ahead, future[:SHOWN], "C3--", label=say("free-running forecast"))
    wave.set(title=say("the same predictions in time"), ylabel=say("value"))
    error.set(title=say("errors: lower is better"), ylabel=say("|error|"), yscale="log",
              xlabel=f"{say('time step')} ({steps[0]:,} - {steps[-1]:,})")
    error.sharex(wave)
    for panel in figure.axes:
        panel.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def plot_gates(inputs, gates, say=str):
    """Returns a figure of the input over the test windows and, under it, a heat map of each of i, f, g, o, c, h.

    `inputs`: (n,) last value of each window, in time order; `gates`: dict from letter to array (n, H). In each map
    the units stand in the order of their covariance with the input.
    """
    figure, panels = plt.subplots(7, figsize=(12, 9), layout="constrained", sharex=True)
    panels[0].plot(inputs)
    panels[0].set(title=say("The LSTM at the last step of each test window"), ylabel=say("input"))
    names = "input gate", "forget gate", "candidate", "output gate", "cell state", "hidden state"
    for panel, letter, name in zip(panels[1:], "ifgoch", names):
        values, middle = gates[letter].T, 0.5 if letter in "ifo" else 0  # (H, n)
        order, reach = np.argsort(values @ (inputs - inputs.mean())), abs(values - middle).max()
        image = panel.imshow(values[order[::-1]], "viridis" if letter in "ifo" else "RdBu_r", aspect="auto",
                             interpolation="nearest", vmin=middle - reach, vmax=middle + reach)
        figure.colorbar(image, ax=panel)
        panel.set(ylabel=say("unit"), yticks=[])
        panel.set_title(f"{letter}  {say(name)}", loc="left", fontsize="medium")
    panels[-1].set_xlabel(say("test window, in time"))
    figure.supxlabel(say("A row is a unit; each map has those on top that rise most with the input. "
                         "The brighter i, f, o, the more open."), fontsize="medium")
    return figure


# ---- 可以通过修改参数… | "by changing the parameters": the command line --------------------------------------------
def bounded(kind, low, high):
    """Returns an argparse type: an int or float from `low` to `high`; argparse says the name when it turns one away."""
    def parse(text):
        if not low <= kind(text) <= high:
            raise ValueError
        return kind(text)
    parse.__name__ = f"{kind.__name__} ({low} to {high})"
    return parse


def available_device(text):
    """An argparse type: a device that this machine has; auto is CUDA where there is one."""
    cuda = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    here = ["cpu", *cuda] + ["cuda"] * bool(cuda)
    if text not in ("auto", *here):
        raise argparse.ArgumentTypeError(f"{text!r} is not on this machine; take auto or one of: {', '.join(here)}")
    return torch.device(here[-1] if text == "auto" else text)


def figure_file(text):
    """An argparse type: the path of a figure, in a folder that can be written to."""
    path = Path(text)
    if path.suffix.lower() not in (".png", ".pdf", ".svg") or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a .png, .pdf or .svg file")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent):
            return path
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write in {str(path.parent)!r} ({error.strerror}); "
                                         "name a file in a folder that exists and lets you write") from None


def command_line():
    """Returns the parser of the options; each default is the article's value."""
    parser = argparse.ArgumentParser(
        description="Train an LSTM to predict the next value of a series, as the article does.",
        epilog="Values in brackets are the defaults: the article's.", allow_abbrev=False)
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: error: {message} (--help lists the options)\n")
    add = parser.add_argument_group("data").add_argument
    add("--length", type=bounded(int, 3, 10**8), default=1000, metavar="N", help="points of the sine [%(default)s]")
    add("--freq", type=bounded(float, 1e-6, 1e8), default=0.1, metavar="F", help="cycles over all points [%(default)s]")
    add("--data", metavar="FILE", help="text file with a series to take instead of the sine: a number a line, or columns")
    add("--column", metavar="C", help="name or number, from 1, of the file's column [its one column of numbers]")
    add = parser.add_argument_group("windows").add_argument
    add("--seq-length", type=bounded(int, 1, 10**8), default=10, metavar="T", help="points a window [%(default)s]")
    add("--split", choices=("random", "time"), help="which 80 %% of the windows to train on [random; time with --data]")
    add = parser.add_argument_group("model").add_argument
    add("--hidden-size", type=bounded(int, 1, 10**4), default=50, metavar="H", help="units a layer [%(default)s]")
    add("--num-layers", type=bounded(int, 1, 100), default=1, metavar="L", help="LSTM layers [%(default)s]")
    add = parser.add_argument_group("training").add_argument
    add("--epochs", type=bounded(int, 1, 10**6), default=50, metavar="E", help="passes over the windows [%(default)s]")
    add("--batch-size", type=bounded(int, 1, 10**8), default=32, metavar="B", help="windows a step [%(default)s]")
    add("--lr", type=bounded(float, 1e-12, 1e30), default=0.001, metavar="R", help="learning rate of Adam [%(default)s]")
    add("--schedule", choices=("constant", "one-cycle"), default="constant",
        help="of the learning rate; one-cycle rises to --lr and falls again [%(default)s]")
    add("--seed", type=bounded(int, 0, 2**64 - 1), default=42, metavar="S", help="of all random draws [%(default)s]")
    add("--device", type=available_device, default="auto", metavar="D", help="auto, cpu, cuda or cuda:N [%(default)s]")
    add("--threads", type=bounded(int, 1, os.cpu_count()), metavar="N", help="CPU threads [1; PyTorch's choice if large]")
    add = parser.add_argument_group("results").add_argument
    add("--forecast", type=bounded(int, 1, 10**6), metavar="STEPS", help="free-running steps past the end [none]")
    add("--gates", action="store_true", help="also draw the gates: same file name with _gates added")
    add("--output", type=figure_file, default="lstm_sine.png", metavar="FILE", help="the figure [%(default)s]")
    add("--no-show", action="store_true", help="open no window where there is a screen")
    add("--lang", choices=("zh", "en"), default="zh", help="of the labels; en where no font can draw zh [%(default)s]")
    return parser


def show_progress(optimizer, steps):
    """Makes `optimizer` say on stderr, after two seconds, how many of its `steps` are done and how long the rest takes."""
    done, began, due = 0, time.monotonic(), time.monotonic() + 2

    def tick(*_):
        nonlocal done, due
        done, now = done + 1, time.monotonic()
        if now > due:  # the carriage return lets the next line, which is longer, write over this one
            left = (now - began) / done * (steps - done)
            print(f"{done / steps:4.0%}, {left:.0f} s left   ", end="\r", file=sys.stderr, flush=True)
            due = now + 0.5

    optimizer.register_step_post_hook(tick)


def main(argv=None):
    """Runs the article's steps, one after the other, as the command line says; exits with 2 on what it cannot be."""
    parser = command_line()
    args = parser.parse_args(argv)
    split = args.split or ("time" if args.data else "random")
    torch.manual_seed(args.seed)
    if args.column is not None and not args.data:
        parser.error("--column names a column of a file; give the file with --data")
    try:
        series, name = (read_series(args.data, args.column) if args.data else
                        (generate_sequence(args.length, args.freq), f"{args.freq:g} cycles of a sine"))
        x, y = create_sequences(series, args.seq_length)  # (n, T) and (n,), in the units of the data
        train, test = split_windows(len(x), split)
        if not 1e-100 < np.ptp(y[train]) < 1e100:
            raise ValueError("the training part is constant or out of scale; take a series that varies by 1e-100 to 1e100")
    except OSError as error:
        parser.error(f"cannot read {args.data}: {error.strerror}; --data takes a text file")
    except ValueError as error:
        parser.error(f"{args.data}: {error}" if args.data else error)

    # Small steps gain little from a second thread, and threads that wait for work slow other processes down.
    if args.threads or args.batch_size * args.hidden_size**2 < 10**6:
        torch.set_num_threads(args.threads or 1)
    mean, std = (y[train].mean(), y[train].std()) if args.data else (0.0, 1.0)
    scaled = torch.from_numpy(((series - mean) / std).astype(np.float32)).to(args.device)
    windows = TensorDataset(*(part.unsqueeze(-1) for part in create_sequences(scaled, args.seq_length)))

    def fetch(numbers):  # non_blocking: the CPU need not wait until the GPU is ready for the numbers
        return windows[numbers.to(args.device, non_blocking=True)]  # (B, T, 1) and (B, 1)

    # With batch_size=None a loader asks for train[numbers of a whole batch] at once, and fetch cuts those windows out.
    train_loader = DataLoader(train, sampler=BatchSampler(RandomSampler(train), args.batch_size, drop_last=False),
                              batch_size=None, collate_fn=fetch)
    test_loader = DataLoader(test.split(args.batch_size), batch_size=None, collate_fn=fetch)
    model = LSTMModel(1, args.hidden_size, args.num_layers, 1).to(args.device)
    rnn = nn.RNN(1, args.hidden_size, args.num_layers, device="meta")  # meta: shapes only, no random draw
    lstm_size, rnn_size, head_size = (sum(p.numel() for p in part.parameters()) for part in (model.lstm, rnn, model.fc))
    print(f"device: {args.device}, CPU threads: {torch.get_num_threads()}, seed: {args.seed}")
    print(f"data: {args.data + ', column ' if args.data else ''}{name}, {len(series):,} points")
    print(f"split: {split}, {len(train):,} training and {len(test):,} test windows of {args.seq_length}; "
          f"{leakage(train, test, args.seq_length):.0%} of the test targets also stand inside training windows")
    print(f"parameters: LSTM {lstm_size:,} (a plain RNN of its size {rnn_size:,}), head {head_size:,}")

    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    if sys.stderr and sys.stderr.isatty():
        show_progress(optimizer, args.epochs * len(train_loader))
    train_model(model, train_loader, nn.MSELoss(), optimizer, args.epochs, args.schedule)
    predictions = evaluate_model(model, test_loader)[0][:, 0].astype(np.float64) * std + mean  # (test,)
    persistence, linear = baselines(x, y, train)
    errors = [rmse(part, y[test]) for part in (predictions, persistence[test], linear[test])]
    print("test RMSE: LSTM {:.6e}, persistence {:.6e}, linear autoregression {:.6e}".format(*errors))
    with np.errstate(divide="ignore"):
        print("The LSTM errs {:.3g} times as much as persistence and {:.3g} times as much as the linear autoregression: "
              "{} wins.".format(*errors[0] / errors[1:], ("the LSTM", "persistence", "the latter")[np.argmin(errors)]))
    future = truth = None
    if args.forecast:
        future = forecast(model, scaled[-args.seq_length:], args.forecast).astype(np.float64) * std + mean
        print(f"forecast: {args.forecast:,} free-running steps, the first {future[0]:.6g}")
    if args.forecast and not args.data:
        total = args.length + args.forecast
        truth = generate_sequence(total, args.freq * (total - 1) / (args.length - 1))[args.length:]
        print(f"forecast RMSE against the true sine: {rmse(future, truth):.6e}")

    if args.no_show:
        plt.switch_backend("agg")
    font = chinese_font() if args.lang == "zh" else None
    say = CHINESE.get if font else str
    with plt.rc_context({"font.family": ["DejaVu Sans", font]} if font else {}):
        figures = {args.output: plot_predictions(series, test.numpy() + args.seq_length, predictions, future, truth, say)}
        if args.gates:
            numbers = test.sort().values[:SHOWN]
            with torch.no_grad():  # batch by batch, to keep no more than the last step of the last layer
                gates = [torch.stack([states[-1, :, -1] for states in lstm_by_hand(model.lstm, fetch(part)[0]).values()])
                         for part in numbers.split(args.batch_size)]  # each (6, B, H)
            gates = dict(zip("ifgoch", torch.cat(gates, dim=1).cpu().numpy()))
            path = args.output.with_stem(args.output.stem + "_gates")
            figures[path] = plot_gates(x[numbers, -1], gates, say)
    for path, figure in figures.items():
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # whole or not at all: written beside, then moved
            figure.savefig(Path(folder, path.name), dpi=150)
            Path(folder, path.name).replace(path)
        print(f"figure: {path}")
    if figure.canvas.required_interactive_framework:
        plt.show()


if __name__ == "__main__":
    if sys.stdout:  # a console with an old code page cannot show every file name
        sys.stdout.reconfigure(encoding="ascii", errors="backslashreplace", line_buffering=True)
    try:
        main()
    except KeyboardInterrupt:
        print("lstm_sine.py: interrupted", file=sys.stderr)
        sys.exit(130)
    except (FloatingPointError, ImportError, OSError) as error:
        sys.exit(f"lstm_sine.py: error: {error}")
