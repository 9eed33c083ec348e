"""Connections of obstore to Google Cloud Storage and Azure, from the stores' usual settings.

Settings come from the environment: obstore reads the variables of Google's and Azure's programs
itself. What it does not know is added here: the variable of emulators of Google Cloud Storage, and
connection strings and the variables of Azure's command line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from jobs.storage.errors import StorageError, one_line
from jobs.values.job import RetrySettings
from jobs.values.locations import STORES

_CONNECT, _READ, _WHOLE = timedelta(seconds=10), timedelta(seconds=60), timedelta(minutes=5)
_LONGEST_WAIT = 5.0  # seconds; nothing ends it before its time
_NEVER: Any = {"max_retries": 0}
_GOOGLE_EMULATOR = "STORAGE_EMULATOR_HOST"
_CONNECTION_STRING = "AZURE_STORAGE_CONNECTION_STRING"
# Settings of Azure by their names in obstore, with the variables that programs of Azure know.
_AZURE = {
    "account_name": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
    "account_key": (
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_KEY",
    ),
    "sas_key": ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"),
    "endpoint": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    "skip_signature": ("AZURE_SKIP_SIGNATURE",),
}
# The account that every emulator of Azure has; its key is public.
_AZURITE = {
    "account_name": "devstoreaccount1",
    "account_key": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/"
    "KBHBeksoGMGw==",
}
_YES = ("1", "true")

CREDENTIALS = {
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or run where a service account is attached",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, "
    "AZURE_STORAGE_CONNECTION_STRING, or the variables of Microsoft Entra ID",
}
"""What to set for a store that refuses, for messages."""


@dataclass(frozen=True)
class ObstoreConnection:
    """One bucket or container, as obstore reaches it.

    Attributes:
        store: Connection of obstore without retries; safe to share between threads.
        lister: The same with retries, for listings.
        bucket: Name of the bucket or container.
        endpoint: URL of the server.
        settings: Settings that were found here, by their names in obstore, credentials among them.
    """

    store: Any
    lister: Any
    bucket: str
    endpoint: str
    settings: Mapping[str, Any]


def connect(scheme: str, bucket: str, retry: RetrySettings) -> ObstoreConnection:
    """Connect to a bucket or container; no request is sent.

    Args:
        scheme: ``gs`` or ``az``.
        bucket: Name of the bucket or container.
        retry: Attempts and waits of requests for the pages of a listing.

    Raises:
        StorageError: The settings are unusable.
    """
    from obstore.exceptions import BaseError  # noqa: PLC0415 - heavy, and few jobs need it
    from obstore.store import AzureStore, GCSStore  # noqa: PLC0415

    settings: Any = _google() if scheme == "gs" else _azure()
    endpoint = settings.get("endpoint") or settings.get("base_url") or _default(scheme, settings)
    kind = GCSStore if scheme == "gs" else AzureStore
    options: Any = {
        "allow_http": endpoint.startswith("http://"),  # the user's endpoint decides
        "connect_timeout": _CONNECT,
        "read_timeout": _READ,
        "timeout": _WHOLE,
    }
    waits: Any = {
        "init_backoff": timedelta(seconds=retry.base),
        "max_backoff": timedelta(seconds=min(retry.cap, _LONGEST_WAIT)),
        "base": 2,
    }
    repeated: Any = {"max_retries": retry.attempts - 1, "backoff": waits}
    try:
        store = kind(bucket, config=settings, client_options=options, retry_config=_NEVER)
        lister = kind(bucket, config=settings, client_options=options, retry_config=repeated)
    except (BaseError, ValueError) as error:
        raise StorageError(
            f"the settings of {STORES[scheme]} cannot be used "
            f"({one_line(str(error).partition(chr(10))[0])}): set {CREDENTIALS[scheme]}"
        ) from None
    return ObstoreConnection(store, lister, bucket, endpoint.rstrip("/"), settings)


def _default(scheme: str, settings: Mapping[str, Any]) -> str:
    if scheme == "gs":
        return "https://storage.googleapis.com"
    return f"https://{settings.get('account_name', '')}.blob.core.windows.net"


def _google() -> dict[str, Any]:
    if host := os.environ.get(_GOOGLE_EMULATOR):
        url = host if "://" in host else f"http://{host}"
        # Emulators look at no token, and obstore asks for one before it writes.
        return {"base_url": url.rstrip("/"), "bearer_token": "emulator"}
    url = os.environ.get("GOOGLE_BASE_URL", "")
    return {"base_url": url} if url else {}


def _azure() -> dict[str, Any]:
    if text := os.environ.get(_CONNECTION_STRING):
        return parse_connection_string(text)
    if os.environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in _YES:
        return _azurite()
    found: dict[str, Any] = {}
    for setting, names in _AZURE.items():
        if value := next((os.environ[name] for name in names if os.environ.get(name)), None):
            found[setting] = value
    return found


def _azurite() -> dict[str, Any]:
    url = os.environ.get("AZURITE_BLOB_STORAGE_URL", "http://127.0.0.1:10000").rstrip("/")
    account = _AZURITE["account_name"]
    # obstore's own switch for the emulator would ignore the endpoint.
    return {**_AZURITE, "endpoint": f"{url}/{account}", "use_emulator": False}


def parse_connection_string(text: str) -> dict[str, Any]:
    """The settings in a connection string of Azure.

    Args:
        text: Text such as ``AccountName=...;AccountKey=...;BlobEndpoint=...``, as Azure's portal
            gives it.

    Raises:
        StorageError: The text names no account.
    """
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    if parts.get("UseDevelopmentStorage", "").lower() == "true":
        return _azurite()
    endpoint, account = parts.get("BlobEndpoint", ""), parts.get("AccountName", "")
    if not account and endpoint:
        account = endpoint.partition("://")[2].partition(".")[0]
    if not account:
        raise StorageError(f"{_CONNECTION_STRING} names neither AccountName nor BlobEndpoint")
    if not endpoint and "EndpointSuffix" in parts:
        protocol = parts.get("DefaultEndpointsProtocol", "https")
        endpoint = f"{protocol}://{account}.blob.{parts['EndpointSuffix']}"
    found = {
        "account_name": account,
        "account_key": parts.get("AccountKey"),
        "sas_key": parts.get("SharedAccessSignature"),
        "endpoint": endpoint.rstrip("/"),
    }
    return {name: value for name, value in found.items() if value}
