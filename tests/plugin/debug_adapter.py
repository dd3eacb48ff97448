"""A small client of the Debug Adapter Protocol, as an IDE has one."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE = 60.0


class DebugAdapterClient:
    """Connection of an IDE to a rank. Use it as a context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), DEADLINE)
        self._file = self._socket.makefile("rb")
        self._number = 0
        self._messages: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def attach(self, path: Path, line: int) -> None:
        """Attach with one breakpoint."""
        self.request("initialize", adapterID="test", pathFormat="path")
        attached = self._send("attach", justMyCode=False)
        self.event("initialized")
        self.request("setBreakpoints", source={"path": str(path)}, breakpoints=[{"line": line}])
        self.request("configurationDone")
        self._response(attached)

    def value_at_stop(self, expression: str) -> str:
        """Wait for the stop at the breakpoint, and evaluate an expression there."""
        thread = self.event("stopped")["threadId"]
        frame = self.request("stackTrace", threadId=thread)["stackFrames"][0]["id"]
        value: str = self.request("evaluate", expression=expression, frameId=frame)["result"]
        self.request("continue", threadId=thread)
        return value

    def request(self, command: str, **arguments: Any) -> Any:
        """Send a request, and return the body of its response."""
        return self._response(self._send(command, **arguments))

    def event(self, name: str) -> Any:
        """Wait for an event, and return its body."""
        return self._take(lambda message: message.get("event") == name).get("body", {})

    def _send(self, command: str, **arguments: Any) -> int:
        self._number += 1
        request = {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        data = json.dumps(request).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        return self._number

    def _response(self, number: int) -> Any:
        response = self._take(lambda message: message.get("request_seq") == number)
        assert response["success"], response
        return response.get("body", {})

    def _take(self, fits: Any) -> dict[str, Any]:
        for index, message in enumerate(self._messages):
            if fits(message):
                return self._messages.pop(index)
        while True:
            message = self._read()
            if fits(message):
                return message
            self._messages.append(message)

    def _read(self) -> dict[str, Any]:
        size = 0
        while (line := self._file.readline().strip()) or not size:
            assert line, "the debugger has closed the connection"
            name, _, value = line.partition(b":")
            size = int(value) if name.lower() == b"content-length" else size
        message: dict[str, Any] = json.loads(self._file.read(size))
        return message
