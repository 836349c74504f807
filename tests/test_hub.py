"""A hub that cannot be reached is asked once, and what needs it is told so with the remedy."""

from __future__ import annotations

import socket

import pytest

from compresslab.data.hub_texts import fetch_texts
from compresslab.errors import DataError, ModelError
from compresslab.hub import reachable
from compresslab.models.hf_net import read_config


@pytest.fixture
def asked(monkeypatch):
    """What was looked up, on a machine without a network."""
    names = []

    def fail(host, *_, **__):
        names.append(host)
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    reachable.cache_clear()
    yield names
    reachable.cache_clear()


def test_a_model_is_asked_for_once(asked):
    """The library would try six times, half a minute long, and print each failure."""
    pytest.importorskip("transformers")
    for _ in range(2):
        with pytest.raises(ModelError, match=r"there is no such folder, and .*`hf download someone/none --local-dir"):
            read_config("someone/none")
    assert asked == ["huggingface.co"]


def test_a_data_set_is_not_waited_for(asked, tmp_path):
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match=r"which cannot be reached; .*`save_to_disk` it, and give the folder"):
        fetch_texts("someone/none", tmp_path)
    assert asked == ["huggingface.co"]


def test_who_asks_to_be_offline_is(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    reachable.cache_clear()
    assert not reachable()
    reachable.cache_clear()


def test_a_proxy_is_left_to_the_library(asked, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    assert reachable()
    assert not asked
