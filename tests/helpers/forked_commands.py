"""A program `lbal` that starts in a hundredth of a second: a server with all libraries loaded forks for each command.

Loading numba, polars and the compiled loop takes most of the time of a short command, and the tests run hundreds of
them. Each still runs in a process of its own, with the arguments, folder, environment, streams and exit code that a
shell gives it, so that pipes, redirections and `||` work. What is not handed on: signals, limits (`ulimit`) and the
umask; tests of those start `python -m lbal.cli` themselves.

    folder_of_lbal() / "lbal"    the program; the server is started with the first call and ends with this process
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import marshal
import os
import pkgutil
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path

FRESH = [sys.executable, "-m", "lbal.cli"]
LIBRARIES = ("altair", "joblib", "ortools.sat.python.cp_model", "polars", "rich.console", "vl_convert")
LENGTH_BYTES = 8

CLIENT = """#!{python} -IS
import marshal, os, socket, sys

try:
    for stream in (0, 1, 2):
        os.fstat(stream)
except OSError:  # one is closed, and cannot be handed on
    os.execv({fresh!r}[0], [*{fresh!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = marshal.dumps((sys.argv[1:], os.getcwd(), dict(os.environ)))
    socket.send_fds(server, [len(request).to_bytes({length}, "big")], [0, 1, 2])
    server.sendall(request)
    answer = server.recv(1)
sys.exit(answer[0] if answer else 3)
"""


@cache
def folder_of_lbal() -> Path:
    """A folder with `lbal` in it, to put in front of the others in `PATH`."""
    folder = Path(tempfile.mkdtemp(prefix="lbal-commands-"))
    address = str(folder / "socket")
    server = subprocess.Popen(
        [sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    )
    atexit.register(shutil.rmtree, folder)
    atexit.register(server.communicate)  # the end of its standard input, which also comes if this process is killed
    assert server.stdout.readline() == b"ready\n"
    client = folder / "lbal"
    client.write_text(CLIENT.format(python=sys.executable, address=address, length=LENGTH_BYTES, fresh=FRESH))
    client.chmod(0o755)
    return folder


def serve(address: str) -> None:
    """Answer requests until the standard input ends."""
    load_everything()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        print("ready", flush=True)
        while server in select.select([server, sys.stdin], [], [])[0]:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                answer(connection)
                os._exit(0)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:  # those that have answered
                    pass


def load_everything() -> None:
    """Import lbal and its libraries, and load one compiled function: the first makes numba load much of itself."""
    import lbal
    from lbal.replay.engine.compiling import compiled_loop

    for name in LIBRARIES:
        importlib.import_module(name)
    for info in pkgutil.walk_packages(lbal.__path__, "lbal."):
        if not info.name.endswith("__main__"):
            importlib.import_module(info.name)
    compiled_loop()
    gc.freeze()


def answer(connection: socket.socket) -> None:
    """Run one command in a process of its own and send its exit code."""
    head, streams, _flags, _address = socket.recv_fds(connection, LENGTH_BYTES, 3)
    length, request = int.from_bytes(head, "big"), b""
    while len(request) < length:
        request += connection.recv(length - len(request))
    child = os.fork()
    if child == 0:
        connection.close()
        run(streams, *marshal.loads(request))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(bytes([code if code >= 0 else 128 - code]))


def run(streams: list[int], arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be the process of that command, and exit. The interpreter is not taken apart, which takes long when so much is loaded."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    if settings_of_python(environment) != settings_of_python(os.environ):
        os.execve(FRESH[0], [*FRESH, *arguments], environment)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin, sys.stdout = os.fdopen(0, "r", encoding="utf-8"), os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    sys.argv = ["lbal", *arguments]
    from lbal.cli.main import main

    try:
        main()
    except SystemExit as error:
        code = int(error.code or 0)
    threading._shutdown()  # as an interpreter does at its end: workers of joblib are told, then what is registered runs
    atexit._run_exitfuncs()
    os._exit(code)


def settings_of_python(environment: dict[str, str]) -> dict[str, str]:
    """What an interpreter and its libraries take from the environment when they start."""
    prefixes = ("PYTHON", "NUMBA", "POLARS")
    settings = {name: value for name, value in environment.items() if name.startswith(prefixes)}
    locale = next(filter(None, (environment.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))), "C")
    # Python takes the locale C for UTF-8.
    is_utf8 = settings.pop("PYTHONUTF8", "") == "1" or locale in ("C", "POSIX") or "utf" in locale.lower()
    return settings | {"encoding": "utf-8" if is_utf8 else locale}


if __name__ == "__main__":
    serve(sys.argv[1])
