"""Requests that no server may answer with 200: seeded, each one wrong in one way that has a name."""

# Every fault has the same signature, whether it needs both of its arguments or not.
# ruff: noqa: ARG001, ARG005

from __future__ import annotations

import gzip
import http.client
import json
import pickle
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks.servers.processes import Server

Body = dict[str, Any]


@dataclass(frozen=True)
class Malformed:
    """One request and what is wrong with it."""

    fault: str
    path: str
    body: bytes
    headers: dict[str, str]


def malformed(
    model: str, valid: Body, count: int, seed: int, without: frozenset[str] = frozenset()
) -> Iterator[Malformed]:
    """Requests for a model, made from a valid one, each fault as often as the others.

    Args:
        model: Its name on the server.
        valid: A request that the server answers, with the first input in one list.
        count: How many.
        seed: The same seed gives the same requests.
        without: Faults to leave out.
    """
    rng = random.Random(seed)  # noqa: S311
    faults = [(fault, spoil) for fault, spoil in _FAULTS.items() if fault not in without]
    for number in range(count):
        fault, spoil = faults[number % len(faults)]
        path, headers = f"/v2/models/{model}/infer", {"Content-Type": "application/json"}
        made = spoil(json.loads(json.dumps(valid)), rng)
        if isinstance(made, Malformed):
            yield Malformed(fault, made.path or path, made.body, {**headers, **made.headers})
        else:
            yield Malformed(fault, path, made if isinstance(made, bytes) else json.dumps(made).encode(), headers)


def send(server: Server, request: Malformed, timeout: float = 20.0) -> int:
    """The status of the answer; 0 where the server closed the connection without one."""
    host, port = server.http.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request("POST", request.path, request.body, request.headers)
        return connection.getresponse().status
    except (http.client.HTTPException, ConnectionError):
        return 0
    finally:
        connection.close()


def send_noise(server: Server, rng: random.Random, timeout: float = 20.0) -> bytes:
    """What the server says to bytes that are no HTTP."""
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout) as connection:
        connection.sendall(rng.randbytes(rng.randint(1, 300)) + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        try:
            return connection.recv(1000)
        except ConnectionError:
            return b""


def statuses(server: Server, requests: Iterator[Malformed]) -> dict[str, Counter[int]]:
    """How each fault was answered."""
    found: dict[str, Counter[int]] = {}
    for request in requests:
        found.setdefault(request.fault, Counter())[send(server, request)] += 1
    return found


class _Writes:
    """Unpickled, it would write a file: whoever unpickles a request is caught."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (self.path, "w")


CANARY = "unpickled-by-the-server"
KILLS_OLD_TRITON = frozenset({"huge shape", "shape overflows", "packed bomb"})
"""PyPI has Triton 2.51. Before its pull request 8676 of 2026, it allocates what a JSON request's shape says and dies;
and what it has unpacked of a request that it refuses, it keeps: some hundred bombs take the machine's memory."""


def _first(body: Body) -> Body:
    first: Body = body["inputs"][0]
    return first


def _changed(key: str, value: Callable[[Body, random.Random], Any]) -> Callable[[Body, random.Random], Any]:
    def spoil(body: Body, rng: random.Random) -> Body:
        first = _first(body)
        first[key] = value(first, rng)
        return body

    return spoil


def _without(key: str) -> Callable[[Body, random.Random], Any]:
    def spoil(body: Body, rng: random.Random) -> Body:
        del _first(body)[key]
        return body

    return spoil


def _datum(value: Callable[[random.Random], Any]) -> Callable[[Body, random.Random], Any]:
    """One value of the data is something else."""

    def spoil(body: Body, rng: random.Random) -> Body:
        data = _first(body)["data"]
        data[rng.randrange(len(data))] = value(rng)
        return body

    return spoil


def _cut(body: Body, rng: random.Random) -> bytes:
    text = json.dumps(body).encode()
    return text[: rng.randrange(1, len(text) - 1)]


def _outputs(body: Body, rng: random.Random) -> Body:
    return {**body, "outputs": [{"name": _word(rng)}]}


def _twice(body: Body, rng: random.Random) -> Body:
    return {**body, "inputs": [*body["inputs"], _first(body)]}


def _another(body: Body, rng: random.Random) -> Body:
    return {**body, "inputs": [*body["inputs"], {**_first(body), "name": _word(rng)}]}


def _fewer(body: Body, rng: random.Random) -> Body:
    first = _first(body)
    first["data"] = first["data"][: rng.randrange(len(first["data"]))]
    return body


def _binary(body: Body, rng: random.Random) -> Malformed:
    """The binary extension with a header length, or a size, that is not so."""
    first = _first(body)
    del first["data"]
    first["parameters"] = {"binary_data_size": rng.choice([0, 3, 1 << 20, 1 << 40])}
    text = json.dumps(body).encode()
    length = rng.choice([len(text), len(text) + 100, 1, 1 << 33])
    return Malformed("", "", text + rng.randbytes(8), {"Inference-Header-Content-Length": str(length)})


def _packed_noise(body: Body, rng: random.Random) -> Malformed:
    return Malformed("", "", rng.randbytes(200), {"Content-Encoding": "gzip"})


def _bomb(body: Body, rng: random.Random) -> Malformed:
    return Malformed("", "", _packed_spaces(), {"Content-Encoding": "gzip"})


@cache
def _packed_spaces() -> bytes:
    return gzip.compress(b" " * (64 << 20), 1)


def _pickled(body: Body, rng: random.Random) -> Malformed:
    return Malformed("", "", pickle.dumps(_Writes(CANARY)), {"Content-Type": "application/octet-stream"})


def _elsewhere(body: Body, rng: random.Random) -> Malformed:
    places = (
        f"/v2/models/{_word(rng)}/infer",
        f"/v2/models/../../{_word(rng)}/infer",
        f"/v2/models/%2e%2e%2f{_word(rng)}/infer",
        f"/v2/{_word(rng)}",
        f"/{_word(rng)}?{_word(rng)}",
    )
    return Malformed("", rng.choice(places), json.dumps(body).encode(), {})


def _word(rng: random.Random) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(4, 12)))


def _nested(depth: int) -> bytes:
    return b'{"inputs":' + b"[" * depth + b"]" * depth + b"}"


_FAULTS: dict[str, Callable[[Body, random.Random], Any]] = {
    "noise": lambda body, rng: rng.randbytes(rng.randint(1, 400)),
    "cut off": _cut,
    "empty": lambda body, rng: b"",
    "not an object": lambda body, rng: rng.choice([b"[]", b"null", b"3", b'"inputs"', b"{}"]),
    "not UTF-8": lambda body, rng: json.dumps(body).encode()[:-1] + b',"id":"\xff\xfe"}',
    "deeply nested": lambda body, rng: _nested(rng.randint(2000, 100000)),
    "no inputs": lambda body, rng: {"inputs": []},
    "no name": _without("name"),
    "no shape": _without("shape"),
    "no type": _without("datatype"),
    "no data": _without("data"),
    "wrong name": _changed("name", lambda first, rng: _word(rng)),
    "name is a number": _changed("name", lambda first, rng: rng.randint(0, 9)),
    "wrong type": _changed("datatype", lambda first, rng: rng.choice(["FP64", "INT8", "BYTES", "BOOL", "UINT8"])),
    "no such type": _changed("datatype", lambda first, rng: _word(rng)),
    "wrong rank": _changed("shape", lambda first, rng: first["shape"][1:]),
    "wrong size": _changed("shape", lambda first, rng: [*first["shape"][:-1], first["shape"][-1] + rng.randint(1, 9)]),
    "negative size": _changed("shape", lambda first, rng: [-rng.randint(1, 9), *first["shape"][1:]]),
    "no rows": _changed("shape", lambda first, rng: [0, *first["shape"][1:]]),
    "huge shape": _changed("shape", lambda first, rng: [1 << rng.randint(31, 62), *first["shape"][1:]]),
    "shape overflows": _changed("shape", lambda first, rng: [1 << 62] * len(first["shape"])),
    "shape is text": _changed("shape", lambda first, rng: _word(rng)),
    "fewer values": _fewer,
    "more values": _changed("data", lambda first, rng: [*first["data"], *[0.5] * rng.randint(1, 50)]),
    "text among numbers": _datum(_word),
    "null among numbers": _datum(lambda rng: None),
    "object among numbers": _datum(lambda rng: {"a": 1}),
    "data is text": _changed("data", lambda first, rng: _word(rng)),
    "data is an object": _changed("data", lambda first, rng: {"0": 1.0}),
    "input twice": _twice,
    "unknown input": _another,
    "unknown output": _outputs,
    "binary sizes": _binary,
    "packed noise": _packed_noise,
    "packed bomb": _bomb,
    "pickle": _pickled,
    "elsewhere": _elsewhere,
}
