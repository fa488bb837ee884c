"""Processes that begin with everything imported: forks of a server, which each process of pytest starts once."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from advmix.cli import main

HERE = Path(__file__).parent
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["everything"])
NONE: Mapping[str, str] = MappingProxyType({})


def start(target: Callable[..., int | None], *arguments: Any, variables: Mapping[str, str] = NONE) -> BaseProcess:
    """A process that ends with what the function returns.

    Args:
        target: by its name in a module.
        arguments: of the function.
        variables: of the environment, beside the usual ones.
    """
    process = SERVER.Process(target=_run, args=(target, arguments, dict(variables)))
    with pytest.MonkeyPatch.context() as patch:  # for the server, which the first process starts
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *filter(None, sys.path)]))
        process.start()
    return process


def start_command(*words: object) -> BaseProcess:
    """A command line of advmix."""
    return start(main, [str(word) for word in words])


def in_two_processes(target: Callable[..., int | None], *arguments: Any) -> None:
    """As `torchrun` starts them; both must succeed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port, ranks = free.getsockname()[1], ("0", "1")
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    both = [start(target, *arguments, variables={**address, "LOCAL_RANK": rank}) for rank in ranks]
    for process in both:
        process.join(300)
    assert [process.exitcode for process in both] == [0, 0]


def _run(target: Callable[..., int | None], arguments: tuple[Any, ...], variables: dict[str, str]) -> None:
    os.environ.update(variables)
    sys.exit(target(*arguments))
