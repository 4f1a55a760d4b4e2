"""``pl weblog``: the web log of a run, from disk or over HTTP on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import InputError, PlError
from ..inside import refuse_links
from .app import OK, debug_option


@click.command()
@click.argument("root", metavar="RUN", type=click.Path(path_type=Path), default=Path())
@click.option("--serve", is_flag=True, help="Serve it on 127.0.0.1 until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to serve on; default: any free one.")
@click.option("--open/--no-open", "open_it", default=True, help="Open it in a browser.")
@click.option("--rebuild", is_flag=True, help="Write its pages again from the run's files.")
@debug_option
def weblog(root: Path, serve: bool, port: int, open_it: bool, rebuild: bool) -> int:
    """Open the web log of the run in folder RUN (default: here), or serve it on this machine."""
    index = find_weblog(root, rebuild)
    if serve:
        _serve(index.parent.parent, port, open_it)
        return OK
    click.echo(str(index))
    if open_it:
        browse(index.as_uri())
    return OK


def find_weblog(root: Path, rebuild: bool = False) -> Path:
    """Return the first page of a run's web log, written now if there is none yet.

    Raises
    ------
    InputError : the folder holds no run.
    """
    root = root.expanduser().resolve()
    if not (root / "run.json").is_file():
        hint = ""
        if root.is_dir():
            runs = sorted(path.parent.name for path in root.glob("*/run.json"))
            hint = f" Runs in it: {', '.join(runs[:5])}." if runs else ""
        raise InputError(f"There is no run in {root}.{hint}")
    refuse_links(root)
    index = root / "weblog" / "index.html"
    if rebuild or not index.is_file():
        from ..journal import RunFolder
        from ..weblog.site import write_site

        RunFolder(root).read_run()
        try:
            write_site(root, live=False)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            raise PlError(f"The web log of {root} cannot be written, a file of the run is damaged: {what}.") from error
    if not index.is_file():
        raise PlError(f"The web log of {root} could not be written.")
    return index


def _serve(root: Path, port: int, open_it: bool) -> None:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(root)))
    except OSError as error:
        raise InputError(f"Port {port} cannot be used: {error.strerror}; leave out --port for a free one.") from None
    with server:
        address = f"http://127.0.0.1:{server.server_address[1]}/weblog/index.html"
        click.echo(f"{address}  (Ctrl-C ends it)")
        if open_it:
            browse(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("")


def browse(address: str) -> None:
    """Open an address in a browser, where there is a display."""
    import os
    import webbrowser

    # Without a display a text browser would take the terminal over.
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)
