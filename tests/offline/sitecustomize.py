"""No network: this process may reach its own machine and nothing else.

Python imports a module of this name at start when its folder is on PYTHONPATH, so the rule also
holds in every process that a test starts, notebook kernels included. See tests/conftest.py.
"""

import ipaddress
import socket


class NetworkBlocked(OSError):
    """A test tried to leave the machine."""


def _is_own(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Only a machine's own addresses can be bound; Ray, for one, talks to itself through them."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _check(host) -> None:
    if host in (None, "", "localhost", b"localhost"):
        return
    try:
        text = host.decode() if isinstance(host, bytes) else str(host)
        if _is_own(ipaddress.ip_address(text.partition("%")[0])):
            return
    except ValueError:  # a name
        pass
    raise NetworkBlocked(f"tests run without the network, but something asked for {host!r}")


def _guard_connect(original):
    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _check(address[0])
        return original(self, address)

    return connect


def _guard_lookup(original):
    def getaddrinfo(host, *args, **kwargs):
        _check(host)
        return original(host, *args, **kwargs)

    return getaddrinfo


def block() -> None:
    """Install the rule in this process, once."""
    if not getattr(socket, "_blocked", False):
        socket._blocked = True
        socket.socket.connect = _guard_connect(socket.socket.connect)
        socket.socket.connect_ex = _guard_connect(socket.socket.connect_ex)
        socket.getaddrinfo = _guard_lookup(socket.getaddrinfo)


block()
