"""Two torchruns that meet, as on two nodes, with one rank each: ``two_nodes.py SCRIPT WHAT``. Ends when both have.

What its node is, a rank finds in ``$NODE``. How each torchrun has ended stands in ``$SAYS/node-N``.
"""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

SAYS = Path(os.environ["SAYS"])


def run(node: int, port: int) -> None:
    """One of them; the first keeps the store."""
    options = ("--nnodes=2", "--nproc-per-node=1", "--max-restarts=0", "--rdzv-backend=c10d", "--rdzv-id=by-hand")
    meeting = (f"--rdzv-endpoint=127.0.0.1:{port}", f"--rdzv-conf=is_host={1 - node}", "--local-addr=127.0.0.1")
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, *meeting, *sys.argv[1:]],
        env={**os.environ, "NODE": str(node)},
        check=False,
    )
    (SAYS / f"node-{node}").write_text(f"{ended.returncode}\n")


def main() -> None:
    """Start both, wait for both."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    nodes = [threading.Thread(target=run, args=(node, port)) for node in range(2)]
    for node in nodes:
        node.start()
    for node in nodes:
        node.join()


if __name__ == "__main__":
    main()
