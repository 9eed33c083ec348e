"""Connections to public addresses only.

The author of a list must not reach services that only this machine can reach, such as the metadata
service of a cloud at 169.254.169.254. A host name does not exclude that: its owner chooses the
address, and can change it at any moment. So the connection is made to the very address that was
checked.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

_TRANSLATED = ip_network("64:ff9b::/96")  # the prefix of IPv4 addresses in IPv6-only networks


class PrivateAddress(HTTPError):
    """The host is at an address that is not public; the message is one line for people."""


def is_public(address: str) -> bool:
    """Whether an address is public, and not one of a private network or of this machine."""
    found: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(found, IPv6Address):
        # Some IPv6 addresses contain an IPv4 address.
        inner = found.ipv4_mapped or found.sixtofour
        if found in _TRANSLATED:
            inner = IPv4Address(int(found) & 0xFFFFFFFF)
        found = inner or found
    return found.is_global and not found.is_multicast


class _PublicConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        """Connect; urllib3 calls this for every new connection, before TLS."""
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if not is_public(address):
                raise PrivateAddress(
                    f"the host '{self.host}' is at {address}, which is not a public address"
                )
        failure = OSError("it has no address")
        for address in addresses:
            try:
                return create_connection(
                    (address, self.port), self.timeout, socket_options=self.socket_options
                )
            except OSError as error:
                failure = error
        raise NewConnectionError(self, f"no connection to '{self.host}': {failure}") from failure


class _PublicPool(HTTPSConnectionPool):
    ConnectionCls = _PublicConnection


def public_pools(**options: Any) -> urllib3.PoolManager:
    """A pool manager that connects by HTTPS only, and to public addresses only.

    Args:
        options: Options of `urllib3.PoolManager`.
    """
    manager = urllib3.PoolManager(**options)
    manager.pool_classes_by_scheme = {"https": _PublicPool}
    return manager
