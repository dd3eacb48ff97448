"""A job as a value."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derail.model.spec import Command, Function, JobSpec, RankSpec, Streams, Teardown


def test_a_job_has_torchs_teardown_by_default():
    """SIGTERM, 30 seconds, SIGKILL, and a bounded wait; only the process groups of the ranks are swept."""
    job = JobSpec(name="train", job_id="1", ranks=())

    assert job.teardown == Teardown(signal=15, grace=30.0, kill_wait=5.0, sweep="group")


def test_a_rank_writes_to_the_console_by_default():
    """Neither stream is redirected, there is no error file, and nothing is bound."""
    rank = RankSpec(rank=0, run=Command(("true",)), env={})

    assert (rank.streams, rank.error_file, rank.cwd, rank.cpus) == (Streams(None, None), None, None, None)


def test_a_function_is_spawned_by_default():
    """Spawn is the start method that works with threads and accelerators."""
    assert Function(print, ()).start_method == "spawn"


@pytest.mark.parametrize("value", [Command(("x",)), Streams(), Teardown(), JobSpec("n", "1", ())])
def test_specs_are_frozen(value):
    """A spec is a value: it cannot be changed, only replaced."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, None)


class TestTeardownFromEnv:
    """torch's environment variable for the grace period."""

    @pytest.mark.parametrize(
        "environ", [{}, {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": ""}, {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": " "}]
    )
    def test_without_it_the_defaults_apply(self, environ):
        """A variable that is absent or empty has no effect."""
        assert Teardown.from_env(environ) == Teardown()

    @pytest.mark.parametrize(("text", "grace"), [("2", 2.0), ("0", 0.0), ("1.5", 1.5), (" 7 ", 7.0), ("1e2", 100.0)])
    def test_it_is_the_grace_in_seconds(self, text, grace):
        """It changes the grace, and nothing else."""
        assert Teardown.from_env({"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": text}) == Teardown(grace=grace)

    @pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", "-inf", "30s", "1,5"])
    def test_anything_but_a_bounded_number_of_seconds_is_refused(self, text):
        """A wait must be bounded, and a typing error is reported."""
        with pytest.raises(ValueError) as raised:
            Teardown.from_env({"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": text})

        assert str(raised.value) == (
            f"TORCH_ELASTIC_SHUTDOWN_TIMEOUT is {text!r}; it must be a number of seconds, 0 or more"
        )

    def test_the_processes_own_environment_is_read_by_default(self, monkeypatch):
        """Without an argument, the variable of this process counts."""
        monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "3")

        assert Teardown.from_env().grace == 3.0

    @given(st.text())
    def test_any_text_gives_a_bounded_grace_or_a_value_error(self, text):
        """No text raises anything but ValueError, and none gives an endless grace."""
        try:
            teardown = Teardown.from_env({"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": text})
        except ValueError:
            return
        assert 0 <= teardown.grace < float("inf")
