"""What the Faker provider makes up looks like the real thing, is the same for the same plan, and derail can read it."""

from __future__ import annotations

import os
import re
import sys

import pytest
from faker import Faker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from derail import faults
from derail.errors.protocol import ErrorRecord, decode
from derail.logs.lines import LineAssembler, shown
from pytest_derail import assert_error_file, assert_failed, assert_log_tail
from pytest_derail.faker import Fake, TrainingProvider, faker

MAKERS = [
    name for name in vars(TrainingProvider) if not name.startswith("_") and name not in ("step_line", "step_lines")
]
ERRORS = ["nccl_timeout", "nccl_error", "gloo_error", "cuda_oom", "checkpoint_error", "data_loader_error"]


def seeded(seed, rank=None):
    """Return a Faker for a plan with this seed."""
    return faker(faults.plan(seed=seed), rank=rank)


@pytest.mark.parametrize("name", MAKERS)
def test_the_plan_determines_the_texts(name):
    """The same seed gives the same texts; other seeds, and other ranks, give other texts."""
    said = [
        [getattr(made, name)() for _ in range(5)] for made in (seeded(1, 0), seeded(1, 0), seeded(2, 0), seeded(1, 1))
    ]

    assert said[0] == said[1]
    assert said[0] != said[2]
    assert said[0] != said[3]


def test_an_additional_fault_changes_no_text():
    """Only the seed of the plan counts, so that a reduced plan gives the same texts."""
    more = faker(faults.plan([faults.exit(1, rank=0)], seed=4))

    assert more.rank_stderr() == seeded(4).rank_stderr()


def test_the_provider_fits_any_faker():
    """It can be added to any Faker, in any language."""
    own = Faker("de_DE")
    own.add_provider(TrainingProvider)

    assert own.host_name()
    assert isinstance(own.training_error(), Fake)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("host_name", r"[a-z][a-z0-9.-]*\d[a-z0-9.-]*"),
        ("peer_address", r"\[\d+\.\d+\.\d+\.\d+\]:\d{4,5}"),
        ("nccl_timeout", r"torch\.distributed\.DistBackendError: \[Rank 0\] Watchdog .*\(SeqNum=\d+, .*timing out\."),
        ("nccl_error", r"torch\.distributed\.DistBackendError: NCCL error in: .*\nnccl\w+: .*\nLast error:\n.*"),
        ("nccl_line", r"\S+:\d+:\d+ \[0\] NCCL INFO .*"),
        ("gloo_error", r"RuntimeError: \[\.\./third_party/gloo/gloo/transport/tcp/\w+\.cc:\d+\] .*"),
        ("cuda_oom", r"torch\.OutOfMemoryError: CUDA out of memory\. Tried to allocate .* GPU 0 has .* unallocated\."),
        ("checkpoint_path", r"/checkpoints/\S+/step-\d+/model-\d{5}-of-00008\.pt"),
        ("checkpoint_error", r"[\w.]+: (?s:.+)"),
        ("data_loader_error", r"(RuntimeError: DataLoader|IndexError: index) (?s:.+)"),
        ("training_traceback", r'Traceback .*:\n(  File ".+", line \d+, in \w+\n    .+\n){3}[\w.]+: (?s:.+)\n'),
    ],
    ids=lambda value: value if value.isidentifier() else "",
)
def test_each_text_has_the_form_of_the_real_one(name, pattern):
    """The patterns that people and programs search for match."""
    strange = [said for seed in range(30) if not re.fullmatch(pattern, said := str(getattr(seeded(seed), name)()))]

    assert strange == []


def test_the_numbers_of_a_full_gpu_fit_together():
    """Used memory is less than the total; allocated and reserved memory are less than used memory."""
    for seed in range(50):
        message = seeded(seed).cuda_oom(3).message
        total, used, allocated, reserved = (
            float(re.search(pattern, message)[1])
            for pattern in (
                r"capacity of ([\d.]+)",
                r"process has ([\d.]+)",
                r"memory ([\d.]+) GiB is",
                r"and ([\d.]+) GiB",
            )
        )
        assert allocated + reserved < used < total, message


def test_the_loss_falls():
    """Step lines are those of a successful training, for every rank."""
    lines = seeded(1).step_lines(1, 200, rank=3)
    losses = [float(re.match(r"\[rank3\]: step \d+/200 \| loss ([\d.]+) \|", line)[1]) for line in lines]

    assert len(losses) == 200
    assert sum(losses[:20]) > 2 * sum(losses[-20:])


def test_a_progress_bar_is_one_line_that_ends_at_its_last_redraw():
    """It is redrawn within its line; a reader of lines shows the last state."""
    bar = seeded(1).progress_bar(total=40, until=30)
    blocks = LineAssembler().feed(f"{bar}\nnext\n".encode())

    assert [shown(line).partition("%")[0] for block in blocks for line in block.texts()] == ["Epoch 1:  75", "next"]
    assert bar.count("\r") == 31


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10_000), st.sampled_from(ERRORS))
def test_error_files_are_read_as_what_they_tell(seed, name):
    """Message and traceback of every kind are read back from the error file."""
    made = seeded(seed)
    error = getattr(made, name)()
    record = decode(made.error_file(error))

    assert isinstance(record, ErrorRecord)
    assert (record.message, record.remarks) == (str(error), ())
    assert record.traceback.endswith(f"{error}\n")


FAILS = """
import os, sys
from pathlib import Path
here = Path(sys.argv[1])
sys.stderr.buffer.write((here / "stderr").read_bytes())
Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_bytes((here / "error.json").read_bytes())
sys.exit(1)
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_realistic_failure_is_reported_like_a_real_one(derail, tmp_path, seed):
    """The failure has the rank's message, and its tail is shown."""
    made = seeded(seed, rank=0)
    error = made.training_error()
    (tmp_path / "stderr").write_text(made.rank_stderr(error=error), newline="")
    (tmp_path / "error.json").write_bytes(made.error_file(error))

    outcome = derail.run([sys.executable, "-c", FAILS, os.fspath(tmp_path)], ranks=1)

    assert_failed(
        outcome, rank=0, exit_code=1, exception=error.type.rpartition(".")[2], message=re.escape(error.message)
    )
    assert_error_file(outcome, 0, "good")
    told = ["* NCCL INFO *", "*Epoch 1: *%|*", "Traceback*", f"{error.type}: *"]
    assert_log_tail(outcome, rank=0, stream="stderr", like=told)


def test_faker_is_loaded_only_on_request(run_python):
    """The plugin itself loads neither Faker nor Hypothesis."""
    run_python("import pytest_derail.plugin, sys; assert not {'faker', 'hypothesis'} & set(sys.modules)")
