"""The command line: one file a command. Nothing heavy is imported before a command needs it."""

from compresslab.cli.app import main

__all__ = ["main"]
