"""Rank 1 goes elsewhere; the others wait for it in a collective."""

import ctypes
import os
import threading

import derail


def evaluate():
    threading.Event().wait()


def hold():
    ctypes.PyDLL(None).pause()


def exchange(work=threading.Event().set):
    with derail.record_collective("exchange", group="halo"):
        work()


def test_one_goes_elsewhere():
    for _ in range(5):
        exchange()
    if os.environ["RANK"] == "1":
        evaluate()
    exchange(threading.Event().wait)


def test_one_is_done():
    exchange()
    if os.environ["RANK"] != "2":
        exchange(threading.Event().wait)
