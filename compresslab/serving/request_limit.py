"""An ASGI middleware for MLServer: what is too long is refused before it is read, and a body counts as JSON."""

from __future__ import annotations

import json
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_GZIP_WBITS = 31
_REPLACED = (b"content-type", b"content-length", b"content-encoding")


class TooLong(Exception):
    """The body is longer than is taken."""


class RequestLimit:
    """Hands a request on with its body in one piece, unpacked, and named JSON.

    A longer one gets status 413, as soon as that is known: a gigabyte is neither read nor, where it was a megabyte
    packed, unpacked. That curl says `application/x-www-form-urlencoded` of JSON does no harm, as with other servers.
    """

    def __init__(self, app: App, *, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """One request, by the ASGI specification."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if b"inference-header-content-length" in headers:
            await _refuse(send, 400, "tensors are taken as JSON only; in tritonclient, `binary_data=False` says so")
            return
        try:
            if length.isdigit() and int(length) > self.limit:
                raise TooLong
            body = await self._body(receive)
            if headers.get(b"content-encoding") == b"gzip":
                body = self._unpacked(body)
        except TooLong:
            await _refuse(send, 413, f"a request may have {self.limit} bytes")
            return
        except zlib.error as error:
            await _refuse(send, 400, f"the body is not what gzip writes ({error})")
            return
        if body:
            kept = [pair for pair in scope["headers"] if pair[0] not in _REPLACED]
            told = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            scope = {**scope, "headers": [*kept, *told]}
        given = False

        async def whole() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, whole, send)

    async def _body(self, receive: Receive) -> bytes:
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":  # the client has gone
                return b""
            part = message.get("body", b"")
            size += len(part)
            if size > self.limit:
                raise TooLong
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _unpacked(self, body: bytes) -> bytes:
        unpacking = zlib.decompressobj(_GZIP_WBITS)
        unpacked = unpacking.decompress(body, self.limit)
        if unpacking.unconsumed_tail:
            raise TooLong
        if not unpacking.eof:
            raise zlib.error("it ends too soon")
        return unpacked


async def _refuse(send: Send, status: int, why: str) -> None:
    body = json.dumps({"error": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # What is left of the request is not read, so the connection cannot take another one.
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
