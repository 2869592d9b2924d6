"""The command line. One file per group of commands: parse, call, print, exit code; no logic."""

from toptune.cli.app import main

__all__ = ["main"]
