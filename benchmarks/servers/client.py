"""Clients of a server, many at once; runs where tritonclient is installed, and needs nothing of compresslab.

python client.py JOB.json writes JOB.json's `output`: how many requests, how long each took, and what went wrong.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np


def main(arguments: list[str]) -> None:
    """Runs the job in a file."""
    job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    with np.load(job["arrays"], allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    inputs = {name.removeprefix("input:"): array for name, array in arrays.items() if name.startswith("input:")}
    expected = {name.removeprefix("output:"): array for name, array in arrays.items() if name.startswith("output:")}
    clients = [Client(job, number, inputs, expected) for number in range(job["clients"])]
    begun = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    seconds = time.perf_counter() - begun
    found = {
        "requests": sum(len(client.nanoseconds) for client in clients),
        "seconds": seconds,
        "errors": [error for client in clients for error in client.errors],
        "largest_difference": max(client.largest for client in clients),
        "milliseconds": [nanoseconds / 1e6 for client in clients for nanoseconds in client.nanoseconds],
    }
    Path(job["output"]).write_text(json.dumps(found), encoding="utf-8")


class Client(threading.Thread):
    """Sends rows in turn until its time is over, and compares every answer."""

    def __init__(self, job: dict[str, Any], number: int, inputs: dict[str, Any], expected: dict[str, Any]) -> None:
        super().__init__()
        self.job, self.number, self.inputs, self.expected = job, number, inputs, expected
        self.nanoseconds: list[int] = []
        self.errors: list[str] = []
        self.largest = 0.0

    def run(self) -> None:
        """Until the time is over, and at least once."""
        library = importlib.import_module(f"tritonclient.{self.job['protocol']}")
        utilities = importlib.import_module("tritonclient.utils")
        client = library.InferenceServerClient(self.job["url"])
        rows, count = self.job["rows"], len(next(iter(self.inputs.values())))
        ends, turn = time.perf_counter() + self.job["seconds"], self.number
        while True:
            start = (turn * rows) % (count - rows + 1)
            given = self.given(library, utilities, start, start + rows)
            wanted = [self.wanted(library, name) for name in self.expected]
            begun = time.perf_counter_ns()
            try:
                answer = client.infer(self.job["model"], given, outputs=wanted)
            except utilities.InferenceServerException as error:
                self.errors.append(str(error))
            else:
                self.nanoseconds.append(time.perf_counter_ns() - begun)
                for name, array in self.expected.items():
                    difference = np.abs(answer.as_numpy(name) - array[start : start + rows]).max()
                    self.largest = max(self.largest, float(difference))
            turn += self.job["clients"]
            if time.perf_counter() > ends:
                break
        client.close()

    def given(self, library: Any, utilities: Any, start: int, end: int) -> list[Any]:
        """The inputs of one request."""
        made = []
        for name, array in self.inputs.items():
            part = np.ascontiguousarray(array[start:end])
            tensor = library.InferInput(name, list(part.shape), utilities.np_to_triton_dtype(part.dtype))
            # MLServer has no binary tensors over HTTP.
            options = {} if self.job["protocol"] == "grpc" else {"binary_data": self.job["binary"]}
            tensor.set_data_from_numpy(part, **options)
            made.append(tensor)
        return made

    def wanted(self, library: Any, name: str) -> Any:
        """One output of a request."""
        options = {} if self.job["protocol"] == "grpc" else {"binary_data": self.job["binary"]}
        return library.InferRequestedOutput(name, **options)


if __name__ == "__main__":
    main(sys.argv[1:])
