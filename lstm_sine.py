"""An LSTM learns a sine, step by step as in the article 长短期记忆（LSTM）网络模型.

    python lstm_sine.py                                the article's experiment
    python lstm_sine.py --by-hand                      the same, by the six equations
    python lstm_sine.py --memory                       what its cell remembers
    python lstm_sine.py --data FILE.csv --forecast 24  a series of your own

In the article's figure, the predictions lie on top of the actual values. How good is
that? The first command repeats the experiment, and adds three simpler predictors:

    one step ahead                    RMSE   / persistence
    LSTM                        0.00103116   1.8 ± 0.3
    persistence                0.000583801   1
    one window ago              0.00584364   10.010 ± 0.002
    linear autoregression      1.53479e-15   2.6e-12 ± 4e-13

Persistence just repeats the last value, and beats this LSTM; the README says why. To
understand LSTMs, read part 1, the article from its equations to its figure, and stop.
"""

import argparse
import csv
import re
import sys
import tempfile
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import font_manager
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Subset, TensorDataset, random_split

# Part 1: the article ==================================================================


# 二、模型原理 | the model: an LSTM by hand, one equation per line
def lstm_by_hand(lstm, x):
    """Computes an `nn.LSTM`, with its own weights, by the six equations of section 2.

    `x` is (B, T, width): B windows, T time steps, `width` numbers at each. PyTorch
    stacks a layer's weights for i, f, g and o: W_if takes x to f, and W_hf takes h to
    f. Returns i, f, g, o, c and h of the last layer, in this order, as (6, B, T, H).
    """
    for weight_ih, weight_hh, bias_ih, bias_hh in lstm.all_weights:  # layer by layer
        # 四个输入：the same x and h go in four times, and only the weights differ.
        W_ii, W_if, W_ig, W_io = weight_ih.chunk(4)  # each (H, width)
        W_hi, W_hf, W_hg, W_ho = weight_hh.chunk(4)  # each (H, H)
        b_ii, b_if, b_ig, b_io = bias_ih.chunk(4)  # each (H,)
        b_hi, b_hf, b_hg, b_ho = bias_hh.chunk(4)  # each (H,)
        h = x.new_zeros(len(x), lstm.hidden_size)  # (B, H)
        c = x.new_zeros(len(x), lstm.hidden_size)  # (B, H)
        steps = []
        for t in range(x.shape[1]):
            x_t = x[:, t]  # (B, width)
            # 输入门 input gate：写入多少，1 = 全写，0 = 不写
            i = torch.sigmoid(x_t @ W_ii.T + b_ii + h @ W_hi.T + b_hi)
            # 遗忘门 forget gate：保留多少，1 = 全留，0 = 全忘
            f = torch.sigmoid(x_t @ W_if.T + b_if + h @ W_hf.T + b_hf)
            # 候选值 candidate：可以写入的新内容
            g = torch.tanh(x_t @ W_ig.T + b_ig + h @ W_hg.T + b_hg)
            # 输出门 output gate：输出多少，1 = 全出，0 = 不出
            o = torch.sigmoid(x_t @ W_io.T + b_io + h @ W_ho.T + b_ho)
            # 记忆细胞状态 cell state：旧内容按比例 f 保留，候选值按比例 i 写入
            c = f * c + i * g
            # 隐藏状态 hidden state：这一步的输出，下一步再与新的 x 一起输入
            h = o * torch.tanh(c)
            steps.append(torch.stack([i, f, g, o, c, h]))  # (6, B, H)
        history = torch.stack(steps, dim=2)  # (6, B, T, H)
        x = history[-1]  # (B, T, H), the h that the next layer reads
    return history


# 五、Python实现示例 | the example: its settings
@dataclass
class Settings:
    seq_length: int = 10  # points in a window
    hidden_size: int = 50  # hidden units in an LSTM layer
    num_layers: int = 1  # LSTM layers; each reads the h of the one before
    epochs: int = 50  # passes over the training windows
    batch_size: int = 32  # windows in a batch
    lr: float = 0.001  # learning rate of Adam
    seed: int = 42  # seed of all random numbers
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    # The last two are not in the article.
    split: str = "random"  # or "time": train on the first 80%, test on the last 20%
    one_cycle: bool = False  # the learning rate rises to lr, then falls to almost 0


# 数据生成 | the data: a series, its windows, and their split
def generate_sequence(length, freq=0.1):
    """Returns `freq` cycles of a sine in `length` points."""
    x = np.linspace(0, 2 * np.pi * freq, length)
    return np.sin(x)


def create_sequences(data, seq_length):
    """Cuts a series of n points into windows, each with the next point as its target.

    With T = seq_length, window k is data[k : k + T], and its target is data[k + T]. So
    0 1 2 3 4, with T = 3, gives the windows 0 1 2 and 1 2 3, and the targets 3 and 4.
    Returns the windows (n - T, T) and the targets (n - T,).
    """
    data = np.asarray(data)
    xs, ys = [], []
    for start in range(len(data) - seq_length):
        xs.append(data[start : start + seq_length])
        ys.append(data[start + seq_length])
    return np.array(xs), np.array(ys)


def to_tensor(values):
    """Returns float32 with a last axis of size 1: (n, T) becomes (n, T, 1)."""
    return torch.FloatTensor(values).unsqueeze(-1)


def split_windows(dataset, split="random"):
    """Returns 80% of the windows for training, and the rest for testing."""
    train_size = int(0.8 * len(dataset))
    if split == "random":
        return random_split(dataset, [train_size, len(dataset) - train_size])
    windows = range(len(dataset))
    return Subset(dataset, windows[:train_size]), Subset(dataset, windows[train_size:])


# 模型定义 | the network: an LSTM layer and a linear layer
class LSTMModel(nn.Module):
    """Predicts the next value from a window; h and c start at zero in each window."""

    def __init__(self, input_size=1, hidden_size=50, num_layers=1, output_size=1):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_size, output_size)

    def forward(self, x):  # (B, T, input_size)
        out, _ = self.lstm(x)  # (B, T, hidden_size), h at each time step
        return self.fc(out[:, -1])  # (B, output_size), from the last h only


class LSTMByHand(LSTMModel):
    """The same network with the same weights, computed by the six equations."""

    def forward(self, x):  # (B, T, input_size)
        *_, h = lstm_by_hand(self.lstm, x)  # (B, T, hidden_size)
        return self.fc(h[:, -1])  # (B, output_size)


# 训练过程 | training
def with_progress(batches, title):
    """Yields the batches; on a terminal, a line shows what share of them is done."""
    for number, batch in enumerate(batches, start=1):
        yield batch
        if sys.stderr.isatty():
            print(f"{title}: {number / len(batches):4.0%}", end="\r", file=sys.stderr)


def train_model(
    model, train_loader, criterion, optimizer, epochs=100, scheduler=None, test_data=()
):
    """Trains `model` in place; a `scheduler` steps after each batch.

    Returns two lists: the mean loss of each epoch, and that on `test_data` after it,
    which is a list of batches. Raises FloatingPointError if a mean loss is not finite.
    """
    device = next(model.parameters()).device
    losses = []
    test_losses = []
    for epoch in range(1, epochs + 1):
        model.train()
        total_loss = 0
        for inputs, targets in with_progress(train_loader, f"Epoch {epoch}"):
            inputs, targets = inputs.to(device), targets.to(device)  # (B, T, 1), (B, 1)
            optimizer.zero_grad()
            outputs = model(inputs)  # (B, 1)
            loss = criterion(outputs, targets)
            loss.backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
            total_loss += loss.item()
        losses.append(total_loss / len(train_loader))
        if not np.isfinite(losses[-1]):
            raise FloatingPointError("the loss is not finite: lower the learning rate")
        if test_data:
            test_losses.append(loss_of(criterion, *evaluate_model(model, test_data)))
        if epoch % 10 == 0 or epoch == epochs:
            print(f"Epoch [{epoch}/{epochs}], Loss: {losses[-1]:.6e}", flush=True)
    return losses, test_losses


# 评估 | evaluation, one step ahead
def evaluate_model(model, test_loader):
    """Returns predictions and actual values in the loader's order, both (n, 1)."""
    device = next(model.parameters()).device
    predictions, actuals = [], []
    model.eval()
    with torch.no_grad():
        for inputs, targets in test_loader:
            predictions.append(model(inputs.to(device)).cpu())
            actuals.append(targets.cpu())
    return torch.cat(predictions).numpy(), torch.cat(actuals).numpy()


def loss_of(criterion, predictions, actuals):
    """Returns the loss of given predictions."""
    return criterion(torch.FloatTensor(predictions), torch.FloatTensor(actuals)).item()


# 可视化 | the article's figure
def plot_results(ax, actuals, predictions, network):
    """Draws the test targets and their predictions in the order of the split."""
    ax.plot(actuals, label="Actual Values")
    ax.plot(predictions, "--", label="Predicted Values")
    ax.set(title=f"{network} prediction results", xlabel="sample", ylabel="value")
    ax.legend()


# 主流程 | the whole experiment, in the article's order, so with its random numbers
@dataclass
class Result:
    """What `run_experiment` returns; values are in the units of its `data`."""

    x: np.ndarray  # (n - T, T), all windows
    y: np.ndarray  # (n - T,), their targets
    train: np.ndarray  # (train,), indices of the training windows
    test: np.ndarray  # (test,), indices of the test windows
    model: nn.Module  # trained
    losses: list  # of each epoch, on the training windows
    test_losses: list  # after each epoch, on the test windows
    persistence_loss: float  # of repeating the last value, on the training windows
    predictions: np.ndarray  # (test,), the network's
    actuals: np.ndarray  # (test,), the true values


def run_experiment(data, settings, model_class=LSTMModel):
    """Trains and tests a network on a series of n numbers; returns a `Result`."""
    torch.manual_seed(settings.seed)
    x, y = create_sequences(np.asarray(data, dtype=float), settings.seq_length)
    dataset = TensorDataset(to_tensor(x), to_tensor(y))
    train_dataset, test_dataset = split_windows(dataset, settings.split)
    train_loader = DataLoader(train_dataset, settings.batch_size, shuffle=True)
    test_loader = DataLoader(test_dataset, settings.batch_size, shuffle=False)
    train = np.array(train_dataset.indices)
    test = np.array(test_dataset.indices)

    model = model_class(1, settings.hidden_size, settings.num_layers, 1)
    model.to(settings.device)
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
    scheduler = None
    if settings.one_cycle:
        updates = settings.epochs * len(train_loader)
        scheduler = OneCycleLR(optimizer, settings.lr, updates)

    # Not test_loader: each pass over a DataLoader uses up one of the random numbers.
    inputs, targets = dataset[test]
    test_data = list(zip(inputs.split(1024), targets.split(1024)))
    losses, test_losses = train_model(
        model, train_loader, criterion, optimizer, settings.epochs, scheduler, test_data
    )
    predictions, actuals = evaluate_model(model, test_loader)
    return Result(
        x=x,
        y=y,
        train=train,
        test=test,
        model=model,
        losses=losses,
        test_losses=test_losses,
        persistence_loss=loss_of(criterion, x[train, -1], y[train]),
        predictions=predictions[:, 0].astype(float),
        actuals=actuals[:, 0].astype(float),
    )


# Part 2: what the result is worth =====================================================


# Predictors are functions from windows (n, T) to the value after each of them, (n,).
@torch.no_grad()
def predict(model, windows):
    """Predicts with the network."""
    model.eval()
    device = next(model.parameters()).device
    batches = to_tensor(windows).split(1024)  # each (1024, T, 1), to save memory
    outputs = [model(batch.to(device))[:, 0].cpu() for batch in batches]
    return torch.cat(outputs).double().numpy()


def persistence(windows):
    """Repeats the last value."""
    return windows[:, -1]


def one_window_ago(windows):
    """Repeats the first value of a window: seasonal naive, if T is the season."""
    return windows[:, 0]


def fit_linear(x, y):
    """Fits linear autoregression to windows (n, T) and targets (n,) by least squares.

    Returns the weights of the T values and of a constant, (T + 1,). If T > 1, a sine of
    step w has exact ones, since sin(a + w) = 2 cos(w) sin(a) - sin(a - w).
    """
    columns = np.column_stack([x, np.ones(len(x))])  # (n, T + 1)
    weights, *_ = np.linalg.lstsq(columns, y, rcond=None)
    return weights


def linear_autoregression(weights, windows):
    """Predicts with these weights."""
    return windows @ weights[:-1] + weights[-1]


def make_predictors(result):
    """Returns the predictors by name; the first is the network."""
    weights = fit_linear(result.x[result.train], result.y[result.train])
    return {
        type(result.model.lstm).__name__: partial(predict, result.model),
        "persistence": persistence,
        "one window ago": one_window_ago,
        "linear autoregression": partial(linear_autoregression, weights),
    }


def input_weights(model, windows):
    """Returns the network's mean gradient for each value of windows (n, T), as (T,)."""
    model.train()  # without it, cuDNN refuses to compute gradients
    inputs = to_tensor(windows[:: 1 + len(windows) // 1000])  # at most 1,000 windows
    inputs = inputs.to(next(model.parameters()).device).requires_grad_()
    (gradient,) = torch.autograd.grad(model(inputs).sum(), inputs)
    return gradient.mean(dim=0)[:, 0].cpu().numpy()


class SubtractLast(LSTMModel):
    """Reads and predicts differences from the last value (as NLinear, Zeng 2023)."""

    def forward(self, x):  # (B, T, 1)
        last = x[:, -1:]  # (B, 1, 1)
        return super().forward(x - last) + last[:, 0]  # (B, 1)


def root_mean_square(values, axis=None):
    """Returns the root of the mean square; of prediction errors, this is the RMSE."""
    return np.sqrt(np.mean(values**2, axis=axis))


def compare(squares, reference, blocks):
    """Returns an RMSE over that of a reference, and the standard error of this ratio.

    Takes squared errors (n,) of two predictors for the same targets, in order of time.
    Neighbours are correlated, so the standard error comes from the means of that many
    `blocks`, by the delta method. It is nan for fewer than three, or for a ratio of 0.
    """
    ratio = np.sqrt(squares.mean() / reference.mean())
    if blocks < 3 or ratio == 0:
        return ratio, np.nan
    differences = squares - ratio**2 * reference  # 0 on average
    means = [block.mean() for block in np.array_split(differences, blocks)]
    error = np.std(means, ddof=1) / np.sqrt(blocks)
    return ratio, error / (2 * ratio * reference.mean())


def count_seen(train, test, seq_length):
    """Returns how many test targets lie in a training window, or are its target."""
    seen = train[:, None] + np.arange(seq_length + 1)  # (train, T + 1), as time steps
    return np.isin(test + seq_length, seen).sum()


# Forecasts: a free run reads its own predictions.
def free_run(predictor, windows, horizon):
    """Predicts `horizon` values after each of the windows: (n, T) to (n, horizon)."""
    future = []
    for _ in range(horizon):
        next_value = np.clip(predictor(windows), -1e50, 1e50)  # (n,), never infinite
        windows = np.column_stack([windows[:, 1:], next_value])  # (n, T)
        future.append(next_value)
    return np.stack(future, axis=1)


def check_forecast(predictors, x, y, horizon):
    """Returns, by name, the errors (starts, horizon) of each predictor's free runs.

    They start at up to 100 windows x (n, T), and have at most (n + 1) // 2 steps.
    """
    horizon = min(horizon, (len(y) + 1) // 2)
    truth = np.lib.stride_tricks.sliding_window_view(y, horizon)  # row k: after x[k]
    starts = np.unique(np.linspace(0, len(truth) - 1, 100).astype(int))
    return {
        name: free_run(predictor, x[starts], horizon) - truth[starts]
        for name, predictor in predictors.items()
    }


def what_is_left(i, f, g):
    """Returns, at [s, t], what is left at time step t of what was written at step s.

    `i`, `f` and `g` are (T,), of one hidden unit. Each step multiplies by f what was
    there, so column t sums to the cell state. Before step s, a row is nan.
    """
    left = np.full((len(f), len(f)), np.nan)
    for s in range(len(f)):
        left[s, s:] = i[s] * g[s] * np.cumprod([1, *f[s + 1 :]])
    return left


# Part 3: pictures =====================================================================


def plot_losses(ax, losses, test_losses, persistence_loss):
    epochs = range(1, len(losses) + 1)
    ax.semilogy(epochs, losses, "C1.-", label="training windows")
    ax.semilogy(epochs, test_losses, "C0.--", label="test windows")
    ax.axhline(persistence_loss, color="C2", ls=":", label="persistence")
    ax.set(title="loss, of scaled values", xlabel="epoch")
    ax.minorticks_off()
    ax.legend(loc="upper right")


def plot_in_time(above, below, values, times, predictions, errors):
    """Draws predictions for the given times over the series, and errors (n,) below."""
    shown = np.arange(max(0, times.min() - len(times)), len(values))
    above.plot(shown, values[shown], "lightgray", lw=4, label="series")
    above.plot(times, predictions, "C1.", ms=3, label="one step ahead")
    above.set(title="the same predictions in time", xlabel="time step", ylabel="value")
    above.legend()
    network, last, *_ = errors.values()
    limit = 4 * max(root_mean_square(network), root_mean_square(last))
    for k, (name, misses) in enumerate(errors.items(), start=1):
        if np.abs(misses).min() < limit:  # else there would be nothing to see
            below.plot(np.sort(times), misses, f"C{k}.", ms=3, zorder=9 - k, label=name)
    below.set(title="prediction minus truth", xlabel="time step", ylim=(-limit, limit))
    below.legend(loc="upper center", ncols=4, markerscale=3, fontsize="small")


def plot_weights(ax, network, linear, name):
    """Draws the weight that each of two predictors gives to each value of a window."""
    places = np.arange(-len(network), 0)  # the last value is at -1
    ax.plot(places, network, "C1.-", label=f"{name}, mean gradient")
    ax.plot(places, linear, "C4.--", label="linear autoregression")
    ax.set(title="weight of each value of a window", xlabel="steps from the target")
    ax.legend()


def plot_forecast(ax, series, forecasts, error):
    """Draws forecasts, with a band of 2 RMSE for the network where it was checked."""
    past = len(series.values)
    network, *others = forecasts
    center = forecasts[network]
    shown = np.arange(max(0, past - 2 * max(len(center), 10)), past)
    ax.plot(shown, series.values[shown], "gray", label="series")
    times = np.arange(past, past + len(center))
    if len(series.future):
        ax.plot(times, series.future, "lightgray", lw=5, label="true continuation")
    low, high = ax.get_ylim()
    margin = (high - low) / 2
    for k, name in enumerate(others, start=2):
        ax.plot(times, forecasts[name], f"C{k}", lw=1, alpha=0.6, label=name)
    ax.plot(times, center, "C1", lw=2, label=network)
    times = times[: len(error)]
    center = center[: len(error)]
    band = ax.fill_between(times, center - 2 * error, center + 2 * error, alpha=0.25)
    band.set(color="C1", label=f"{network} ± 2 RMSE")
    ax.set(title="forecast", xlabel="time step", ylabel="value")
    ax.set_ylim(low - margin, high + margin)  # a forecast that runs away is cut off
    ax.legend(loc=(1.01, 0.2))  # beside the panel


def plot_steps_ahead(ax, errors):
    """Draws the RMSE of each predictor at each step ahead."""
    for k, (name, values) in enumerate(errors.items(), start=1):
        ax.plot(range(1, len(values) + 1), values, f"C{k}", label=name)
    ax.set(title="RMSE of free runs in the test part", xlabel="steps ahead")
    ax.set_ylim(0, 1.5 * errors["persistence"].max() or None)  # cuts what is far worse
    ax.legend(loc=(1.01, 0.2))  # beside the panel


def plot_memory(axes, x, history, unit, meaning_of_x):
    """Draws what one hidden unit does with a window x (T,); `history` is (6, T)."""
    i, f, g, o, c, h = history
    gates, states, trained, kept = axes
    gates.plot(i, ".-", label="input gate i")
    gates.plot(f, ".-", label="forget gate f")
    gates.plot(o, ".--", label="output gate o")
    gates.set(title=f"gates of hidden unit {unit}", ylim=(-0.05, 1.05))
    gates.legend()
    states.plot(x, "k.:", label=meaning_of_x)
    states.plot(c, ".-", label="cell state c")
    states.plot(h, ".-", label="hidden state h")
    states.set(title="its states, on the last window of the series")
    states.legend()
    limit = np.abs(i * g).max()
    trained.set(title="what is left of each i·g, as trained")
    kept.set(title="what would be left if f were 1")
    for ax, forget in [(trained, f), (kept, np.ones(len(f)))]:
        left = what_is_left(i, forget, g)
        image = ax.imshow(left, "RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        ax.set(xlabel="time step", ylabel="written at time step")
        ax.set_facecolor("silver")  # nan: not written yet
    trained.figure.colorbar(image, ax=[trained, kept])


# Labels are English in the code, and replaced by these before a figure is saved.
# (.+) stands for a name or a number, which \1 repeats.
CHINESE = {
    "(.+) cycles of a sine": r"\1 个周期的正弦波",
    "(.+) prediction results": r"\1预测结果",
    "sample": "样本",
    "value": "值",
    "persistence": "持续性预测",
    "one window ago": "一个窗口前的值",
    "linear autoregression": "线性自回归",
    "loss, of scaled values": "损失（缩放后的值）",
    "training windows": "训练集",
    "test windows": "测试集",
    "epoch": "训练轮数",
    "series": "序列",
    "one step ahead": "单步预测",
    "the same predictions in time": "同一批预测，按时间顺序",
    "prediction minus truth": "预测值减真实值",
    "time step": "时间步",
    "weight of each value of a window": "窗口中每个值的权重",
    "(.+), mean gradient": r"\1，平均梯度",
    "steps from the target": "相对目标的步数",
    "forecast": "预测",
    "(.+) ± 2 RMSE": r"\1 ± 2 倍均方根误差",
    "true continuation": "后续真实值",
    "RMSE of free runs in the test part": "测试集上递归预测的均方根误差",
    "steps ahead": "预测的步数",
    "gates of hidden unit (.+)": r"第 \1 个隐藏单元的门",
    "its states, on the last window of the series": "该单元的状态（序列最后一个窗口）",
    "input gate i": "输入门 i",
    "forget gate f": "遗忘门 f",
    "output gate o": "输出门 o",
    "input x, scaled": "输入 x（缩放后）",
    "change from the last value, scaled": "输入：与最后一个值之差（缩放后）",
    "cell state c": "记忆细胞状态 c",
    "hidden state h": "隐藏状态 h",
    "what is left of each i·g, as trained": "每次写入的 i·g 还剩多少（训练所得）",
    "what would be left if f were 1": "若 f = 1，还会剩多少",
    "written at time step": "写入的时间步",
}


# Parts of the names of Chinese fonts, on Windows, macOS and Linux.
FONTS = (
    "SimHei|YaHei|PingFang SC|Heiti SC|Noto Sans CJK (SC|JP)|Source Han Sans|WenQuanYi"
)


def set_labels(figure, in_chinese, fonts):
    """Puts every text of a figure into Chinese if asked; escapes what no font draws."""
    drawn_by = [font_manager.get_font(font_manager.findfont(name)) for name in fonts]
    for label in figure.findobj(plt.Text):
        text = label.get_text()
        for english, chinese in CHINESE.items():
            if in_chinese and re.fullmatch(english, text):
                text = re.sub(english, chinese, text)
        for char in set(text):
            if not any(font.get_char_index(ord(char)) for font in drawn_by):
                text = text.replace(char, char.encode("unicode_escape").decode())
        label.set(text=text, fontfamily=fonts)


def save(path, write):
    """Has `write` save to a temporary folder, then moves the file to `path`."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished = Path(folder, path.name)
        write(unfinished)
        unfinished.replace(path)
    print(f"saved: {path}")


# Part 4: other series =================================================================


@dataclass
class Series:
    name: str
    values: np.ndarray  # (n,)
    future: np.ndarray  # what comes next, (horizon,), or (0,) if that is not known
    mean: float  # of the values
    scale: float  # the network reads and predicts (value - mean) / scale

    def scaled(self):
        return (self.values - self.mean) / self.scale

    def unscale(self, values):
        return values * self.scale + self.mean


def mackey_glass(length):
    """Returns a chaotic series, one point every 6 units of time (Mackey & Glass 1977).

    dx/dt = 0.2 x(t - 17) / (1 + x(t - 17)^10) - 0.1 x(t), by Euler's method in steps of
    0.1, from x = 1.2 and without the first 500 units.
    """
    delay = 170  # steps of 0.1
    x = [1.2] * (delay + 1)
    for _ in range(5000 + 60 * (length - 1)):
        growth = 0.2 * x[-1 - delay] / (1 + x[-1 - delay] ** 10)
        x.append(x[-1] + 0.1 * (growth - 0.1 * x[-1]))
    return np.array(x[delay + 5000 :: 60])


def read_text(path):
    """Reads a file in UTF-8 or, as Excel saves it in China, in GBK."""
    content = Path(path).read_bytes()
    for encoding in ["utf-8-sig", "gb18030"]:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            pass  # try the next
    raise ValueError("this is not text in UTF-8 or GBK: save it as CSV in UTF-8")


def to_number(cell):
    """Returns the number in a cell, which may be nan, or None."""
    try:
        return float(cell)
    except ValueError:
        return None


def find_column(first_row, column):
    """Returns the index of a column, and whether its first cell is a name."""
    names = [name.strip() for name in first_row]
    numbers = [str(number) for number in range(1, len(names) + 1)]
    counted = [str(k) for k in range(len(names))]  # as pandas names its columns
    is_counted = len(names) > 1 and names in [counted, ["", *counted[:-1]]]
    if column is None and len(names) == 1:
        column = "1"
    if names.count(column) == 1 and (is_counted or column not in numbers):
        return names.index(column), True
    if column in numbers:
        index = numbers.index(column)
        return index, is_counted or to_number(names[index]) is None
    raise ValueError(
        f"choose a --column by number or name; the first line is {', '.join(names)!r} "
        "(tabs, semicolons and commas separate columns; write decimal points)"
    )


def read_column(path, column=None):
    """Reads a column of finite numbers, chosen by its name or its number from 1.

    Returns its values (n,), and what it is called. Raises ValueError or csv.Error.
    """
    lines = read_text(path).rstrip("\r\n").splitlines(keepends=True)
    if len(lines) < 2:
        raise ValueError("a series goes down a column, and this file has only one line")
    separator = max("\t;,", key=lines[0].count)
    rows = list(csv.reader(lines, delimiter=separator))
    width = len(rows[0])
    index, has_name = find_column(rows[0], column)
    called = f"column {index + 1}, which has no name in the first line"
    if has_name:
        called = f"column {rows.pop(0)[index].strip()[:60]}"
    cells = [row[index] if len(row) == width else "" for row in rows]
    values = np.array([to_number(cell) for cell in cells], dtype=float)  # None: nan
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        first = separator.join(rows[bad[0]])
        raise ValueError(
            f"{len(bad)} lines have no number in column {index + 1} of {width}; the "
            f"first is {first[:60]!r}: fill gaps, and write decimal points"
        )
    return values, called


def load_series(args):
    """Makes or reads the series that the options name, and chooses mean and scale."""
    points = args.length
    ahead = points + args.forecast  # with what comes after the end
    if args.data == "sine":
        name = f"{args.freq:g} cycles of a sine"
        values = generate_sequence(ahead, args.freq * ((ahead - 1) / (points - 1)))
    elif args.data == "mackey-glass":
        name = "Mackey-Glass"
        values = mackey_glass(ahead)
    else:
        values, called = read_column(args.data, args.column)
        name = f"{Path(args.data).name}, {called}"
        points = len(values)
    values, future = np.split(values, [points])
    if points < args.seq_length + 5:
        raise ValueError(f"{points} points are too few for --seq-length windows")
    if points * args.seq_length > 2 * 10**8:
        raise ValueError("--seq-length windows of so many points do not fit in memory")
    early = values[: int(0.8 * len(values))]  # without the test part of a split in time
    if np.abs(values).max() > 1e50 or np.ptp(early) <= 1e-12 * np.abs(values).max():
        raise ValueError("values are too large, or constant over the first 80%")
    mean = early.mean()
    scale = early.std()
    if args.subtract_last:
        scale = root_mean_square(np.diff(early))  # a typical change
    elif args.data == "sine":
        mean = 0.0  # as in the article
        scale = 1.0
    return Series(name, values, future, mean, scale)


# Part 5: the program ==================================================================

NUMBERS = {  # option: default, lowest, highest, meaning
    "length": (1000, 2, 10**7, "points of a sine or of mackey-glass"),
    "freq": (0.1, 1e-9, 1e9, "cycles of the sine over all its points"),
    "seq_length": (Settings.seq_length, 1, 10**5, "points in a window"),
    "hidden_size": (Settings.hidden_size, 1, 10**4, "hidden units in a layer"),
    "num_layers": (Settings.num_layers, 1, 100, "LSTM layers"),
    "epochs": (Settings.epochs, 1, 10**6, "passes over the training windows"),
    "batch_size": (Settings.batch_size, 1, 10**7, "windows in a batch"),
    "lr": (Settings.lr, 1e-12, 1e6, "learning rate of Adam"),
    "seed": (Settings.seed, 0, 2**32, "seed of the random numbers"),
    "forecast": (0, 0, 10**5, "steps to predict after the end"),
}


def make_parser():
    description = "An LSTM learns a sine, or a series of your own."
    parser = argparse.ArgumentParser("lstm_sine.py", description=description)
    add = parser.add_argument
    add("--data", default="sine", help="sine, mackey-glass or a CSV file [sine]")
    add("--column", help="column of the file, by its name or its number from 1")
    for name, (default, _, _, meaning) in NUMBERS.items():
        option = "--" + name.replace("_", "-")
        add(option, type=type(default), default=default, help=f"{meaning} [{default}]")
    add("--device", choices=["cpu", "cuda"], default=Settings.device)
    split = "test windows [time: the last 20%%; random for a sine without forecast]"
    add("--split", choices=["random", "time"], help=split)
    on_off = argparse.BooleanOptionalAction
    add("--subtract-last", action=on_off, help="predict changes [on for files]")
    add("--one-cycle", action="store_true", help="raise, then lower the learning rate")
    add("--by-hand", action="store_true", help="train by the six equations")
    add("--memory", action="store_true", help="draw what the cell remembers")
    add("--output", type=Path, default="lstm_sine.png", help="figure [lstm_sine.png]")
    add("--lang", choices=["zh", "en"], default="zh", help="language of labels [zh]")
    add("--no-show", action="store_true", help="open no window")
    return parser


def check_args(args):
    """Completes the options. Raises ValueError or OSError if one is impossible."""
    if args.subtract_last is None:
        args.subtract_last = args.data not in ["sine", "mackey-glass"]
    if args.split is None:
        args.split = "random" if args.data == "sine" and not args.forecast else "time"
    for name, (_, lowest, highest, _) in NUMBERS.items():
        if not lowest <= getattr(args, name) <= highest:
            option = "--" + name.replace("_", "-")
            raise ValueError(f"{option} must lie between {lowest} and {highest}")
    if args.forecast and args.split == "random":
        raise ValueError("--forecast is checked on the last 20%: use --split time")
    if args.by_hand and args.subtract_last:
        raise ValueError("--by-hand needs --no-subtract-last")
    if (args.memory or args.by_hand) and not isinstance(LSTMModel().lstm, nn.LSTM):
        raise ValueError("--memory and --by-hand need an nn.LSTM")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no CUDA device here")
    output = args.output
    if output.suffix.lower() not in [".png", ".pdf", ".svg"]:
        raise ValueError("--output must be a file that ends in .png, .pdf or .svg")
    forecast = output.with_stem(output.stem + "_forecast")
    memory = output.with_stem(output.stem + "_memory")
    for path in [output, memory, forecast, forecast.with_suffix(".csv")]:
        if path.is_dir() or path.resolve() == Path(args.data).resolve():
            raise ValueError(f"--output would overwrite {path}")
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        Path(folder, forecast.name).touch()  # tries the longest of the names


def format_ratio(ratio, error):
    """Writes a ratio to the first digit of its standard error, as 1.77 ± 0.04."""
    if not np.isfinite(error):
        return f"{ratio:.3g} ± -"
    if error < 1e-9 * ratio:  # only rounding
        return f"{ratio:.3g} ± 0"
    decimals = -int(np.floor(np.log10(error)))
    if decimals > 6 or ratio > 1e6:
        digits = max(0, decimals + int(np.floor(np.log10(ratio))))
        return f"{ratio:.{digits}e} ± {error:.0e}"
    decimals = max(0, decimals)
    return f"{ratio:.{decimals}f} ± {error:.{decimals}f}"


def print_table(title, errors, blocks):
    """Prints each predictor's RMSE from its errors (n,) or (n, horizon), by time."""
    squares = {}
    for name, values in errors.items():
        squares[name] = np.mean(values.reshape(len(values), -1) ** 2, axis=1)  # (n,)
    reference = squares["persistence"]
    print(f"{title:26}{'RMSE':>12}   / persistence")
    for name, values in squares.items():
        if not reference.any():
            ratio = "-"
        elif name == "persistence":
            ratio = "1"
        else:
            ratio = format_ratio(*compare(values, reference, blocks))
        print(f"{name:26}{np.sqrt(values.mean()):12.6g}   {ratio}")


def report(series, result, predictors):
    """Prints and draws how good the predictions are, one step ahead."""
    test = np.sort(result.test)  # in order of time
    errors = {}
    for name, predictor in predictors.items():
        errors[name] = series.scale * (predictor(result.x[test]) - result.y[test])
    print_table("one step ahead", errors, blocks=min(10, len(test)))
    print("±: sampling error of this test part, for this one network; vary --seed, too")
    times = result.test + result.x.shape[1]  # of the targets
    predictions = series.unscale(result.predictions)
    network, *_ = predictors
    linear = fit_linear(result.x[result.train], result.y[result.train])[:-1]
    gradient = input_weights(result.model, result.x[test])
    figure = plt.figure(figsize=(10.5, 7.5))
    figure.subplots_adjust(0.09, 0.07, 0.98, 0.91, wspace=0.2, hspace=0.45)
    figure.suptitle(series.name, parse_math=False)
    axes = figure.subplot_mosaic("AAL;TTT;EEW")
    plot_results(axes["A"], series.unscale(result.actuals), predictions, network)
    plot_losses(axes["L"], result.losses, result.test_losses, result.persistence_loss)
    plot_in_time(axes["T"], axes["E"], series.values, times, predictions, errors)
    plot_weights(axes["W"], gradient, linear, network)
    return figure


def make_forecast(series, result, predictors, horizon):
    """Runs freely past the end, but first in the test part, where truth is known."""
    x_test = result.x[result.test]
    y_test = result.y[result.test]
    errors = check_forecast(predictors, x_test, y_test, horizon)
    errors = {name: series.scale * values for name, values in errors.items()}
    network, *_ = predictors
    starts, checked = errors[network].shape
    apart = len(y_test) // checked  # runs that do not overlap
    print_table(f"free runs of {checked} steps", errors, min(10, starts, apart))
    window = series.scaled()[None, -x_test.shape[1] :]  # (1, T), the last one
    forecasts = {}
    for name, predictor in predictors.items():
        forecasts[name] = series.unscale(free_run(predictor, window, horizon)[0])
    forecast = forecasts[network]
    print(f"forecast: first {forecast[0]:.10g}, last {forecast[-1]:.10g}, ", end="")
    print(f"{forecast.min():.10g} to {forecast.max():.10g}")
    if len(series.future):
        error = root_mean_square(forecast - series.future)
        print(f"RMSE of this forecast: {error:.6g}")
    figure = plt.figure(figsize=(10.5, 7.5), layout="constrained")
    figure.suptitle(series.name, parse_math=False)
    above, below = figure.subplots(2)
    by_step = {name: root_mean_square(e, axis=0) for name, e in errors.items()}
    plot_forecast(above, series, forecasts, by_step[network])
    plot_steps_ahead(below, by_step)
    return forecasts, figure


def save_forecasts(forecasts, first, path):
    """Saves a column for each predictor; steps count from `first`."""
    steps = first + np.arange(len(forecasts["persistence"]))
    table = np.column_stack([steps, *forecasts.values()])
    header = ",".join(["step", *forecasts])
    np.savetxt(path, table, "%.12g", delimiter=",", header=header, comments="")


def show_memory(series, result):
    """Draws the last window in the hidden unit that adds most to its prediction."""
    model = result.model
    meaning = "input x, scaled"
    x = to_tensor(series.scaled()[None, -result.x.shape[1] :])  # (1, T, 1)
    if isinstance(model, SubtractLast):
        meaning = "change from the last value, scaled"
        x = x - x[:, -1:]
    with torch.no_grad():
        history = lstm_by_hand(model.lstm, x.to(model.fc.weight.device))  # (6, 1, T, H)
    unit = (model.fc.weight[0] * history[-1, 0, -1]).abs().argmax().item()
    figure = plt.figure(figsize=(10.5, 7.5), layout="constrained")
    figure.suptitle(series.name, parse_math=False)
    history = history[:, 0, :, unit].cpu().numpy()  # (6, T)
    plot_memory(figure.subplots(2, 2).flat, x[0, :, 0].numpy(), history, unit, meaning)
    return figure


def finish(figures, args):
    """Saves and shows the figures."""
    installed = sorted(font_manager.get_font_names(), reverse=True)
    fonts = [name for name in installed if re.search(FONTS, name)][:1]
    in_chinese = args.lang == "zh" and bool(fonts)
    if args.lang == "zh" and not in_chinese:
        print("labels are English, since no Chinese font is installed")
    for ending, figure in figures.items():
        set_labels(figure, in_chinese, ["DejaVu Sans", *fonts])
        save(args.output.with_stem(args.output.stem + ending), figure.savefig)
    if not args.no_show and plt.get_backend().lower() != "agg":
        plt.show()
    for figure in figures.values():
        plt.close(figure)


def main(argv=None):
    """Runs with these options, or the command line's, and returns the `Result`."""
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        check_args(args)
        series = load_series(args)
    except (OSError, ValueError, csv.Error) as error:
        sys.exit(f"lstm_sine.py: error: {error}")
    values = series.values
    print(f"data: {series.name}, {len(values):,} points, ", end="")
    print(f"first {values[0]:.10g}, last {values[-1]:.10g}, ", end="")
    print(f"{values.min():.10g} to {values.max():.10g}")
    # Each setting is an option of the same name.
    settings = {field.name: getattr(args, field.name) for field in fields(Settings)}
    model_class = LSTMModel
    if args.by_hand:
        model_class = LSTMByHand
    elif args.subtract_last:
        model_class = SubtractLast
    try:
        result = run_experiment(series.scaled(), Settings(**settings), model_class)
    except FloatingPointError as error:
        sys.exit(f"lstm_sine.py: error: {error}")
    seen = count_seen(result.train, result.test, args.seq_length)
    print(f"split: {args.split}, {len(result.train)} training windows; ", end="")
    print(f"training has seen {seen} of {len(result.test)} test targets")

    predictors = make_predictors(result)
    with plt.style.context("default"):
        figures = {"": report(series, result, predictors)}
        if args.forecast:
            forecasts, figure = make_forecast(series, result, predictors, args.forecast)
            figures["_forecast"] = figure
            path = args.output.with_name(args.output.stem + "_forecast.csv")
            save(path, partial(save_forecasts, forecasts, len(values)))
        if args.memory:
            figures["_memory"] = show_memory(series, result)
        finish(figures, args)
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)  # which is faster for so small a network
    torch.backends.cudnn.allow_tf32 = False  # CUDA computes as precisely as a CPU
    if hasattr(sys.stdout, "reconfigure"):  # not so in IDLE, or a notebook
        sys.stdout.reconfigure(errors="backslashreplace")  # if a console lacks a sign
    main()
