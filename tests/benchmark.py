"""Time and memory of whole runs: by hand, with options for all, for instance `--device cuda`."""
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from subprocess import DEVNULL, Popen
from timeit import repeat

import numpy as np

SCRIPT = Path(__file__).resolve().parent.parent / "lstm_sine.py"
RUNS = {"the article": (1, ""), "two copies at once": (2, ""),
        "a file of a million lines": (1, "--data million.csv --epochs 1 --batch-size 1024"),
        "a million points": (1, "--length 1000000 --freq 1000 --epochs 1 --batch-size 1024")}


def run_script(copies, options):
    """Runs so many copies of the script at once."""
    command = [sys.executable, SCRIPT, "--no-show", *options.split(), *sys.argv[1:]]
    started = [Popen(command, stdout=DEVNULL) for _ in range(copies)]
    assert not any([process.wait() for process in started])


with tempfile.TemporaryDirectory() as folder, chdir(folder):
    Path("million.csv").write_text("0.123456\n0.234567\n" * 500_000)
    for name, run in RUNS.items():
        seconds = np.median(repeat(lambda: run_script(*run), number=1, repeat=3))
        memory = getrusage(RUSAGE_CHILDREN).ru_maxrss / 1e6  # of the largest process so far
        print(f"{name}: {seconds:.1f} s, at most {memory:.2f} GB")
