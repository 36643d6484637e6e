"""The ports that a stack on this machine takes: free, taken by what belongs there, or by something else."""

import errno
import re
import socket
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from rakuten.doctor.check import Finding, ok, warning

# What each program answers, and to which path: all are open without a password.
SIGNATURES = {
    "BentoML": ("/docs.json", rb'"openapi"'),
    "MLflow": ("/health", rb"^OK$"),
    "Prometheus": ("/-/healthy", rb"Prometheus"),
    "Grafana": ("/api/health", rb'"database"'),
}
EXPECTED = {3000: "BentoML", 8000: "BentoML", 5000: "MLflow", 9090: "Prometheus", 3001: "Grafana"}
ANSWER_S = 2.0
_LISTENING = "0A"  # in /proc/net/tcp


def check_port(port: int) -> Finding:
    if _is_free(port):
        return ok("free")
    expected = EXPECTED.get(port)
    if name := next(
        (name for name in ([expected] if expected else SIGNATURES) if _answers(port, name)), None
    ):
        return ok(f"{name} answers")
    owner = _owner(port) or "a process that this user may not look at"
    return warning(
        f"taken by {owner}, which is not {expected or 'of this stack'}",
        f"end that process, or give {expected or 'the service'} another port",
    )


def _is_free(port: int) -> bool:
    """Whether a program could listen here."""
    with socket.socket() as door:
        door.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a connection that is just ending is no owner
        try:
            door.bind(("", port))
            door.listen()
        except OSError as failure:
            if failure.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def _answers(port: int, name: str) -> bool:
    path, signature = SIGNATURES[name]
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=ANSWER_S) as answer:
            return re.search(signature, answer.read(100_000)) is not None
    except (HTTPError, URLError, OSError, ValueError):
        return False


def _owner(port: int) -> str | None:
    """Name and number of the process that listens, as far as /proc tells this user."""
    inodes = {f"socket:[{inode}]" for inode in _listening(port)}
    for link in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        try:
            if str(link.readlink()) in inodes:
                process = link.parents[1]
                # Not its command line, which may hold a password.
                return (
                    f"{process.joinpath('comm').read_text(errors='replace').strip()} (process {process.name})"
                )
        except OSError:
            continue
    return None


def _listening(port: int) -> list[str]:
    inodes = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        rows = [line.split() for line in lines]
        inodes += [
            row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port
        ]
    return inodes
