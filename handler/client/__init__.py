"""Questions to a running service, over HTTP.

    with Client("http://127.0.0.1:8080", model="vea-lite", key_file=path) as client:
        answer = client.predict(image)

What is sent, what is sent again and what is given up is decided once, in `exchange`; `Client` and
`AsyncClient` only carry it out. Nothing that runs inside a server imports this package.
"""

from handler.client.asynchronous import AsyncClient
from handler.client.errors import EndpointError, Refused, Unavailable
from handler.client.keys import FixedKey, KeyFile, Keys
from handler.client.retry import RetryPolicy
from handler.client.sync import Client

__all__ = [
    "AsyncClient",
    "Client",
    "EndpointError",
    "FixedKey",
    "KeyFile",
    "Keys",
    "Refused",
    "RetryPolicy",
    "Unavailable",
]
