"""Deterministic toy training: SGD with momentum on three floats, with a data order and dropout from ``random``."""

import argparse
import json
import os
import random
from pathlib import Path

DATA = [((1.0, i / 8, (i * i % 7) / 7), 2.0 + i / 4 - (i * i % 7) / 3) for i in range(8)]


class Training:
    """Weights, momentum, random numbers and position in the data of one rank."""

    def __init__(self, seed=0):
        self.seed, self.step, self.position = seed, 0, 0
        self.weights, self.momentum = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        self.random = random.Random(seed)

    def gradient(self):
        """Return the gradient of the next sample, with dropout."""
        epoch, index = divmod(self.position, len(DATA))
        order = random.Random(f"{self.seed}/{epoch}").sample(range(len(DATA)), len(DATA))
        inputs, expected = DATA[order[index]]
        self.position += 1
        kept = [value * (self.random.random() > 0.25) for value in inputs]
        error = sum(weight * value for weight, value in zip(self.weights, kept, strict=True)) - expected
        return [error * value for value in kept]

    def update(self, gradient):
        """Make the step with a gradient."""
        self.momentum = [0.9 * old + new for old, new in zip(self.momentum, gradient, strict=True)]
        self.weights = [weight - 0.05 * by for weight, by in zip(self.weights, self.momentum, strict=True)]
        self.step += 1

    def loss(self):
        """Return the mean squared error over all data."""
        errors = [sum(w * v for w, v in zip(self.weights, inputs, strict=True)) - y for inputs, y in DATA]
        return sum(error * error for error in errors) / len(errors)

    def state(self):
        """Return everything that a resumed run needs."""
        return {
            "step": self.step, "position": self.position, "weights": self.weights, "momentum": self.momentum,
            "random": self.random.getstate(),
        }  # fmt: skip

    def restore(self, state):
        """Take over a state that was read from JSON."""
        for name, value in state.items():
            if name == "random":
                version, internal, gauss = value
                self.random.setstate((version, tuple(internal), gauss))
            else:
                setattr(self, name, value)


def arguments(*, save_every=3, step_seconds=0.0):
    """Parse the command line, and make the directory of checkpoints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--save-every", type=int, default=save_every)
    parser.add_argument("--step-seconds", type=float, default=step_seconds)
    args = parser.parse_args()
    args.out.mkdir(exist_ok=True)
    return args


def write_durably(path, state):
    """Write a file of JSON and its data to the disk; its name is not durable yet."""
    with open(path, "w") as file:
        file.write(json.dumps(state))
        file.flush()
        os.fsync(file.fileno())


def synchronize(directory):
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def read(path):
    """Return the content of a file of JSON."""
    return json.loads(path.read_text())


def number(path):
    """Return the step in a name such as ``step_12.json``."""
    return int(path.name.removeprefix("step_").partition(".")[0])
