"""`serve`: a page on this machine to restore photographs in a browser, and its HTTP interface."""

from __future__ import annotations

import argparse

from rnan_plugin.commands.arguments import add_device

EXAMPLES = """
  rnan serve              prints the address to open in a browser; Ctrl-C ends it
  rnan serve --port 0     at a free port

  curl --data-binary @photo.jpg -o restored.png "http://127.0.0.1:7860/api/restore?name=photo.jpg&format=png"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--port", type=int, default=7860, help="of 127.0.0.1; 0 takes a free one (default: 7860)")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU (default: all)")
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    """Serve until it is interrupted; see `page_server` for errors."""
    import signal

    from rnan_plugin.errors import UserError
    from rnan_plugin.inference.restore_files import Work
    from rnan_plugin.inference.restorer import RestoreSettings
    from rnan_plugin.page.server import page_server

    if not 0 <= options.port < 2**16:
        raise UserError(f"--port: {options.port} is not from 0 to {2**16 - 1}")
    Work(threads=options.threads)  # checks them
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was sent is removed then, too
    settings = RestoreSettings(device=options.device, precision=options.precision)
    with page_server(options.port, settings, options.threads) as server:
        print(f"{server.address} is open to browsers on this machine; Ctrl-C ends it", flush=True)
        server.serve_forever()
    return 0
