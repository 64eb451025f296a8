"""A gateway transport in a process of its own, for figures that a test must not share with its server.

Run as a script: prints the port, then serves until its standard input ends. `/stats` answers with what it costs.
"""

import argparse
import gc
import json
import os
import resource
import sys

import anyio
import psutil
from anyio.lowlevel import checkpoint

from pairing.gateway.http import JSON, HttpRequest, HttpResponse
from pairing.gateway.listener import serve
from pairing.gateway.site import TransportLimits
from pairing.gateway.transport import Link

REPLY = "r" * 4096


async def handle(link: Link) -> None:
    match link.peer.path:
        case "/stranger":
            while True:
                await link.recv()
                link.send(REPLY)
        case "/member":
            link.admit(1024 * 1024)
            while True:
                await link.recv()
                link.send(REPLY)
        case "/listener":
            link.admit(1024 * 1024)
            while link.send(REPLY):
                await checkpoint()
            await link.gone()
        case _:
            while True:
                link.send(await link.recv())


def stats(request: HttpRequest) -> HttpResponse:
    gc.collect()
    me = psutil.Process()
    found = {"rss": me.memory_info().rss, "fds": me.num_fds(), "tasks": len(anyio.get_running_tasks())}
    return HttpResponse(200, JSON, json.dumps(found).encode())


async def main(limits: TransportLimits) -> None:
    async with anyio.create_task_group() as group:

        async def listen(*, task_status) -> None:
            await serve(handle, host="127.0.0.1", port=0, http=stats, limits=limits, task_status=task_status)

        addresses = await group.start(listen)
        print(addresses[0][1], flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        group.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--nofile", type=int)
    parser.add_argument("--limits", type=json.loads, default={})
    options = parser.parse_args()
    if options.nofile:
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.nofile, options.nofile))
    anyio.run(main, TransportLimits(**options.limits), backend_options={"use_uvloop": options.uvloop})
    os._exit(0)
