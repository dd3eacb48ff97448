"""pytest's own fixtures in ranks."""

import logging
import os

import pytest


@pytest.mark.ranks(2)
def test_own(rank, monkeypatch, capsys, caplog, tmp_path, tmp_path_factory, pytestconfig, request, from_conftest):
    monkeypatch.setenv("RANK", "7")
    print("captured", rank)
    assert capsys.readouterr().out == f"captured {rank}\n"
    logging.getLogger().warning("rank %d", rank)
    assert caplog.messages == [f"rank {rank}"]
    (tmp_path / str(rank)).touch()
    (tmp_path_factory.mktemp("mine", numbered=False) / str(rank)).touch()
    assert os.listdir(tmp_path_factory.getbasetemp() / "mine") == [str(rank)]
    assert request.getfixturevalue("late") == f"late {rank}"
    assert from_conftest == ("conftest", rank)
    assert pytestconfig.getini("log_level") == "INFO"
    with pytest.raises(ZeroDivisionError, match="zero"):
        1 / 0
    with pytest.warns(UserWarning):
        import warnings

        warnings.warn("x")


def test_shared(tmp_path_factory):
    assert [sorted(os.listdir(path)) for path in tmp_path_factory.getbasetemp().glob("test_own0")] == [["0", "1"]]
