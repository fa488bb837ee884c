"""Imported by the server of `forked`: all that commands import."""

from faults.forks import preload

preload()
