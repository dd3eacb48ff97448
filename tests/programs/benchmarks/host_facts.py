"""What an unarmed runtime leaves in a process: threads, hooks, signal handlers, modules, finders; as JSON."""

import json
import signal
import sys
import threading

handlers = [n for n in range(1, signal.NSIG) if n not in (13, 25) and callable(signal.getsignal(n))]
tools = [sys.monitoring.get_tool(n) for n in range(6)] if hasattr(sys, "monitoring") else []
print(
    json.dumps(
        {
            "threads": threading.active_count(),
            "hooks": [str(hook) for hook in (sys.getprofile(), sys.gettrace(), *tools) if hook is not None],
            "handlers": [n for n in handlers if n != signal.SIGINT],
            "modules": sorted(name for name in sys.modules if name.startswith("_derail_inrank")),
            "wrapped": sorted(str(finder) for finder in sys.meta_path if "derail" in type(finder).__module__),
        }
    )
)
