"""Copies its streams: ``MODULE DIRECTORY``; needs nothing of derail but that module."""

import importlib
import pathlib
import sys
import types

source, copy = map(pathlib.Path, sys.argv[1:])
package = types.ModuleType("inrank")
package.__path__ = [str(source.parent)]
sys.modules["inrank"] = package
stream_copies = importlib.import_module("inrank.stream_copies")
stream_copies.begin("stdout", str(copy / "stdout"))
stream_copies.begin("stderr", str(copy / "stderr"))
print("h\u00e9llo", sys.stdout.name, sys.stdout.encoding, sys.stdout.fileno(), sys.stdout.mode, flush=True)
sys.stdout.buffer.write(b"raw \xff\n")
print("no line end", end="")
raise RuntimeError("its last words")
