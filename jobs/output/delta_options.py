"""Options with which the Delta package reaches a table where all other code reaches the store.

A commit is the creation of a log entry that nobody else may have created. Of S3 the package has to
be told that it can do that; on Google Cloud Storage and Azure it always asks for it. A server that
ignores the condition would lose commits in silence, so it is tried before the first one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError

from handler.values.errors import LocationError
from jobs.storage.errors import StorageError, classify_error
from jobs.storage.folders import UnconditionalWrites, open_folder
from jobs.storage.stores import Stores
from jobs.values.locations import ObjectLocation, is_in_store


def storage_options(table: str, stores: Stores) -> dict[str, str] | None:
    """Options for a table; None for a local one.

    Args:
        table: Folder of the table, a path or ``s3://bucket/prefix``.
        stores: Clients of the object stores.

    Raises:
        LocationError: The package cannot be told where the store is.
        StorageError: The settings of the store are unusable.
    """
    if not is_in_store(table):
        return None
    place = ObjectLocation.parse(f"{table.rstrip('/')}/_")
    if place.scheme == "s3":
        return _s3(place.bucket, stores)
    connection = stores.through_obstore(place.scheme).connection(place.bucket)
    options = _azure(connection.settings) if place.scheme == "az" else _google(connection.settings)
    return {**options, "allow_http": str(connection.endpoint.startswith("http://")).lower()}


def require_conditional_writes(table: str, stores: Stores) -> None:
    """See that the server of a table refuses to create what exists.

    Args:
        table: Folder of the table, a path or ``s3://bucket/prefix``.
        stores: Clients of the object stores.

    Raises:
        UnconditionalWrites: The server does not, so of two commits at once one would be lost.
        StorageError: The server cannot be written to.
    """
    if not is_in_store(table):
        return
    folder, name = open_folder(table, stores), f"_vea-{secrets.token_hex(8)}"
    try:
        folder.create(name, b"")  # a folder in a store sees to it
    except UnconditionalWrites:
        folder.delete([name])
        raise UnconditionalWrites(
            f"the server of {table} does not refuse to create an object that exists, so commits of "
            "two runs at the same time could be lost: choose a store with conditional writes for "
            "--delta"
        ) from None
    folder.delete([name])


def _s3(bucket: str, stores: Stores) -> dict[str, str]:
    connection = stores.s3.connection()
    try:
        key, secret, token = connection.credentials()
        url = connection.bucket_url(bucket)
    except BotoCoreError as error:
        found = classify_error(error, bucket=bucket, key="", endpoint=connection.endpoint)
        raise StorageError(str(found)) from None
    virtual = not url.endswith(f"/{bucket}")
    options = {
        # Where the bucket is part of the host's name, Delta wants it there.
        "AWS_ENDPOINT_URL": url if virtual else connection.endpoint,
        "AWS_REGION": connection.region,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": str(virtual).lower(),
        "AWS_ALLOW_HTTP": "true",  # as boto3: the endpoint that the user sets decides
        "AWS_CONDITIONAL_PUT": "etag",
    }
    return {**options, "AWS_SESSION_TOKEN": token} if token else options


def _azure(settings: Mapping[str, Any]) -> dict[str, str]:
    """What is not here, such as the variables of Microsoft Entra ID, the package reads itself."""
    return {
        f"azure_storage_{name}": str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in settings.items()
        if name != "skip_signature"
    }


def _google(settings: Mapping[str, Any]) -> dict[str, str]:
    """Credentials the package reads itself; an emulator is a service account that needs no key."""
    url = settings.get("base_url")
    if not url:
        return {}
    if "bearer_token" not in settings:
        raise LocationError(
            "--delta does not reach the server of GOOGLE_BASE_URL: use STORAGE_EMULATOR_HOST for "
            "an emulator, or a table on this machine"
        )
    account = {"gcs_base_url": url, "disable_oauth": True}
    empty = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    return {"google_service_account_key": json.dumps({**account, **empty})}
