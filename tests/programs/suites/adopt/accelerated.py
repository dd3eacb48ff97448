"""Launchers of accelerate in tests."""

import torch
from accelerate import Accelerator, debug_launcher, notebook_launcher


def gathers():
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    gathered = accelerator.gather(torch.tensor([accelerator.process_index]))
    assert gathered.tolist() == [0, 1]


def fails():
    if Accelerator(cpu=True).process_index == 1:
        raise ValueError("of rank 1")


def test_debug_launcher():
    debug_launcher(gathers, num_processes=2)


def test_debug_launcher_fails():
    debug_launcher(fails, num_processes=2)


def test_notebook_launcher():
    notebook_launcher(gathers, num_processes=2, use_port="0")


def test_notebook_launcher_fails():
    notebook_launcher(fails, num_processes=2, use_port="0")
