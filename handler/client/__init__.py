"""HTTP client of a running service.

    with Client("http://127.0.0.1:8080", model="vea-lite", key_file=path) as client:
        answer = client.predict(image)

Requests, retries and errors are decided once, in `exchange`, without IO; `Client` and `AsyncClient`
perform the IO. No code that runs inside a server imports this package.
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
