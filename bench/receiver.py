"""A receiver of webhooks that does next to nothing: `python -m bench.receiver PORT`. It answers each POST with 204, and
each GET with how many posts there were and when the first and the last one came."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time


class Receiver:
    def __init__(self) -> None:
        self.count = 0
        self.first = self.last = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                if length:
                    await reader.readexactly(int(length[1]))
                if head.startswith(b"POST"):
                    self.last = time.perf_counter()
                    self.first = self.first or self.last
                    self.count += 1
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                else:
                    writer.write(self._told())
        writer.close()

    def _told(self) -> bytes:
        body = f"{self.count} {self.first} {self.last}".encode()
        self.count, self.first, self.last = 0, 0.0, 0.0
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def main(port: int) -> None:
    async with await asyncio.start_server(Receiver().serve, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
