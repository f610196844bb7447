"""The command line: a face over the package, which nothing else imports."""

from scenc.cli._app import app, main

__all__ = ["app", "main"]
