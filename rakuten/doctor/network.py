"""Is anybody there? Asked with a knock of a few seconds, since libraries try for minutes."""

import socket
from urllib.parse import urlsplit

KNOCK_S = 4.0
PORTS = {"http": 80, "https": 443, "ssh": 22, "postgresql": 5432}


def knock(host: str, port: int) -> str | None:
    """None if somebody listens, else what is wrong."""
    place = f"{host}:{port}"
    try:
        socket.create_connection((host, port), timeout=KNOCK_S).close()
    except socket.gaierror:
        return f"no machine is called {host}"
    except ConnectionRefusedError:
        return f"nobody listens at {place}"
    except TimeoutError:
        return f"{place} did not answer within {KNOCK_S:g} s"
    except OSError as failure:
        return f"{place} cannot be reached: {failure.strerror or failure}"
    return None


def knock_at(url: str) -> str | None:
    """As `knock`, at the host of a URL; None too where it names none."""
    parts = urlsplit(url)
    port = parts.port or PORTS.get(parts.scheme.split("+")[0])
    return knock(parts.hostname, port) if parts.hostname and port else None
