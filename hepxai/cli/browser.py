"""Command ``app``: the page in the browser."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from hepxai.cli.program import app, console, plain_errors

SETTINGS = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.enableStaticServing": "false",
    "server.enableXsrfProtection": "true",
    "server.maxUploadSize": "300",
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.toolbarMode": "viewer",
    "runner.magicEnabled": "false",
    "theme.base": "light",
}
"""Settings of streamlit: no statistics, no traceback, nothing from other machines."""


@app.command("app")
def open_app(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of a run or a scan, or a folder of those; examples without.")
    ] = None,
    address: Annotated[
        str, typer.Option(help="Address to listen on; other machines reach 0.0.0.0.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8501,
) -> None:
    """Explain in the browser, without code: runs, scans, uploads and examples (extra `app`)."""
    with plain_errors():
        from hepxai.app import folders
        from hepxai.core.extras import import_extra

        import_extra("streamlit", "the page", "app")
        if folder is not None:
            folders.runs_in(folder)  # refused here, if there is nothing to open
        _refuse_taken(address, port)
        if address not in ("127.0.0.1", "localhost", "::1"):
            console.print("[bold yellow]warning:[/] everybody who reaches this address sees the opened runs")
        options = {**SETTINGS, "server.address": address, "server.port": str(port)}
        script = Path(folders.__file__).parent / "script" / "page.py"
        command = [sys.executable, "-m", "streamlit", "run", str(script)]
        command += [f"--{name}={value}" for name, value in options.items()]
        console.print(f"page: {_url(address, port)}  (Ctrl-C ends it)", highlight=False, markup=False)
        target = {} if folder is None else {folders.TARGET: str(folder.resolve())}
        os.execve(sys.executable, command, {**os.environ, **target})  # signals are for the page alone


def _url(address: str, port: int) -> str:
    """Where a browser finds the page; of an address that stands for all of this machine, by its name."""
    host = socket.gethostname() if address in ("0.0.0.0", "::") else address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refuse_taken(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as problem:
            taken = problem.errno in (errno.EADDRINUSE, errno.EACCES)
            another = f"--port {port - 1 if port == 65535 else port + 1}" if taken else "--address 127.0.0.1"
            raise OSError(
                f"{address}:{port} cannot be used ({problem.strerror}); try another, as in {another}"
            ) from None
