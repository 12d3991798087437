"""A real HTTP server that streams completions at a known speed.

Started as `completions_server.py PORT CHUNK SECONDS FAIL`. Every request gets CHUNK tokens each SECONDS, as
vLLM's server-sent events. Request number FAIL (from 1; 0: none) gets error events instead. `/asked` says how
many tokens each request has asked for. A second request on a connection finds it closed, as happens with a
server that closes idle ones.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import weakref

from aiohttp import web

_numbers = itertools.count(1)
_asked: list[int] = []
_used: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()


async def complete(request: web.Request) -> web.StreamResponse:
    chunk, seconds, fail = int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    assert request.transport is not None
    if request.transport in _used:
        request.transport.abort()
    _used.add(request.transport)
    number = next(_numbers)
    body = await request.json()
    _asked.append(body["max_tokens"])
    assert body["ignore_eos"]
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    if body["model"] != "made":
        return web.json_response({"error": {"message": "no such model"}}, status=404)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for sent in range(chunk, body["max_tokens"] + 1, chunk):
        await asyncio.sleep(seconds)
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": sent}
        event = {"choices": [{"text": " ba" * chunk}], "usage": usage}
        if number == fail:
            event = {"error": {"message": "engine died"}}
        await response.write(f"data: {json.dumps(event)}\n\n".encode())
    await response.write(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


async def asked(_: web.Request) -> web.Response:
    return web.json_response(_asked)


async def healthy(_: web.Request) -> web.Response:
    return web.Response()


app = web.Application()
app.router.add_post("/v1/completions", complete)
app.router.add_get("/health", healthy)
app.router.add_get("/asked", asked)
# Told to end, it does not wait for answers that nobody reads.
web.run_app(
    app, host="127.0.0.1", port=int(sys.argv[1]), print=None, handler_cancellation=True, shutdown_timeout=0.5
)
