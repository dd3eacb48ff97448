"""A rank with a child in another session; rank 0 stands at a fail point, the others wait."""

import os
import subprocess
import sys
import time

from derail.faults import fail_point

child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("ready", os.getpid(), child.pid, flush=True)
if os.environ["RANK"] == "0":
    fail_point("gate")
end = time.monotonic() + 600
while time.monotonic() < end:
    time.sleep(0.01)
