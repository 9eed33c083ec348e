"""TCP ports of one TorchServe.

Only the loopback interface is ever bound: TorchServe's management port can load code, so no other
machine may reach it.
"""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass

from vea.serving.errors import ServingError

HOST = "127.0.0.1"
_EPHEMERAL = 32768  # from here on the kernel assigns ports to clients


@dataclass(frozen=True)
class Ports:
    """TCP ports on the loopback interface.

    Attributes:
        inference: Port of the inference API.
        management: Port of the management API.
        metrics: Port of the metrics API.
        grpc_inference: Port of the inference API over gRPC.
        grpc_management: Port of the management API over gRPC.
    """

    inference: int
    management: int
    metrics: int
    grpc_inference: int
    grpc_management: int

    @classmethod
    def choose(
        cls,
        inference: int | None = None,
        management: int | None = None,
        metrics: int | None = None,
    ) -> Ports:
        """The given ports, and free ports in place of those that are None.

        Args:
            inference: Port of the inference API.
            management: Port of the management API.
            metrics: Port of the metrics API.

        Raises:
            ServingError: A given port is in use or given twice.
        """
        given = [port for port in (inference, management, metrics) if port is not None]
        for port in given:
            if given.count(port) > 1:
                raise ServingError(f"port {port} is given twice; each service needs its own")
            if not _is_free(port):
                raise ServingError(
                    f"port {port} on {HOST} is taken or not allowed; stop what listens there "
                    "or choose another port"
                )
        candidates = random.sample(range(20000, _EPHEMERAL), 500)
        free = (port for port in candidates if port not in given and _is_free(port))
        return cls(
            inference or next(free),
            management or next(free),
            metrics or next(free),
            next(free),
            next(free),
        )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server does: a connection that has just been closed does not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
        return True
