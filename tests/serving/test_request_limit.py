"""The middleware alone, with an application that tells what reached it."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from compresslab.serving.request_limit import RequestLimit

LIMIT = 1000


def call(
    headers: dict[str, str], parts: list[bytes], kind: str = "http"
) -> tuple[int | None, bytes, dict[bytes, bytes], int]:
    """The status (None if the application was reached), the body it got or gave, its headers, the parts read."""
    reached: dict[str, Any] = {}
    sent: list[dict[str, Any]] = []
    waiting = [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1} for index, part in enumerate(parts)
    ]
    taken = iter(waiting)
    read = 0

    async def receive() -> Any:
        nonlocal read
        read += 1
        return next(taken, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached["headers"] = dict(scope.get("headers", ()))
        message = await receive()
        reached["body"] = message.get("body", b"")
        reached["then"] = (await receive())["type"]

    scope = {"type": kind, "headers": [(key.encode(), value.encode()) for key, value in headers.items()]}
    asyncio.run(RequestLimit(app, limit=LIMIT)(scope, receive, send))
    if reached:
        return None, reached["body"], reached["headers"], read
    return sent[0]["status"], sent[1]["body"], dict(sent[0]["headers"]), read


def test_a_body_arrives_in_one_piece_and_as_json() -> None:
    status, body, headers, _ = call({"content-type": "application/x-www-form-urlencoded"}, [b'{"a"', b": 1}"])
    assert (status, body) == (None, b'{"a": 1}')
    assert headers[b"content-type"] == b"application/json"


def test_a_packed_body_is_unpacked() -> None:
    packed = gzip.compress(b"x" * LIMIT)
    status, body, headers, _ = call({"content-encoding": "gzip", "content-length": str(len(packed))}, [packed])
    assert (status, body) == (None, b"x" * LIMIT)
    assert b"content-encoding" not in headers
    assert headers[b"content-length"] == str(LIMIT).encode()


def test_what_says_that_it_is_too_long_is_not_read() -> None:
    status, body, headers, read = call({"content-length": str(LIMIT + 1)}, [b"x"] * 5)
    assert (status, read) == (413, 0)
    assert json.loads(body) == {"error": "a request may have 1000 bytes"}
    assert headers[b"connection"] == b"close"


def test_what_does_not_say_so_is_read_up_to_the_limit() -> None:
    status, _, _, read = call({"transfer-encoding": "chunked"}, [b"x" * 400] * 100)
    assert (status, read) == (413, 3)


def test_a_bomb_is_not_unpacked() -> None:
    assert call({"content-encoding": "gzip"}, [gzip.compress(b"x" * (LIMIT + 1))])[0] == 413


@pytest.mark.parametrize("body", [b"noise", gzip.compress(b"x" * 500)[:-9], b""])
def test_what_gzip_did_not_write_is_refused(body: bytes) -> None:
    status, told, _, _ = call({"content-encoding": "gzip"}, [body])
    assert status == 400
    assert b"not what gzip writes" in told


def test_binary_tensors_are_refused_with_the_remedy() -> None:
    status, body, _, _ = call({"inference-header-content-length": "10"}, [b"{}"])
    assert status == 400
    assert b"binary_data=False" in body


def test_a_client_that_goes_away_in_between_is_no_error() -> None:
    status, body, _, _ = call({}, [])
    assert (status, body) == (None, b"")


def test_what_is_no_request_passes() -> None:
    """Start and end of the server come this way as well."""
    status, body, _, _ = call({}, [b"x"], kind="lifespan")
    assert (status, body) == (None, b"x")
