"""A launcher of three ranks: ``WORKER DIRECTORY``."""

import os
import subprocess
import sys

ranks = {
    rank: subprocess.Popen(
        [sys.executable, "-u", sys.argv[1]],
        start_new_session=True,
        env={
            **os.environ,
            "RANK": str(rank),
            "WORLD_SIZE": "3",
            "TORCHELASTIC_ERROR_FILE": f"{sys.argv[2]}/error{rank}",
        },
    )
    for rank in range(3)
}
sys.exit(max([abs(rank.wait()) for rank in ranks.values()]))
