"""Starts children in every way that Python has; each prints a line."""

import multiprocessing
import os
import subprocess
import sys


def child():
    print("child", flush=True)


if __name__ == "__main__":
    subprocess.run([sys.executable, "-c", "print('child', flush=True)"], check=True)
    for method in ("fork", "spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=child)
        process.start()
        process.join()
    if os.fork() == 0:
        print("child", flush=True)
        os._exit(0)
    os.wait()
    from derail.faults import fail_point

    fail_point("here")
