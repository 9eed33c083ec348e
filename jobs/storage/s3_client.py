"""One connection to S3 from the standard AWS settings, and the URL of a bucket.

Settings come from the environment, profiles and instance roles, as in every AWS program. Clients
other than boto3 get endpoint, region and credentials from here too, so that all agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError, NoCredentialsError

from jobs.storage.errors import StorageError, one_line

_AWS = (".amazonaws.com", ".amazonaws.com.cn")


@dataclass(frozen=True)
class Connection:
    """A boto3 session and its S3 client; safe to share between threads.

    Attributes:
        session: Session that holds the credentials and renews them.
        client: Client of S3, without retries of its own.
        ca_bundle: Path of the certificates that servers are verified with, if the settings name
            one.
    """

    session: Any
    client: Any
    ca_bundle: str | None = None

    @property
    def endpoint(self) -> str:
        """URL of the server."""
        url: str = self.client.meta.endpoint_url
        return url

    @property
    def region(self) -> str:
        """Name of the region that requests are signed for."""
        name: str = self.client.meta.region_name
        return name

    def bucket_url(self, bucket: str) -> str:
        """URL that a key is appended to, after a slash.

        botocore decides between ``bucket.host`` and ``host/bucket``, and knows about dual-stack,
        FIPS and accelerated endpoints; a presigned URL is its public way to show the result.

        Raises:
            BotoCoreError: The bucket's name or region is impossible.
        """
        place = {"Bucket": bucket, "Key": "k"}
        url = urlsplit(self.client.generate_presigned_url("get_object", Params=place))
        return f"{url.scheme}://{url.netloc}{url.path.removesuffix('/k')}"

    def credentials(self) -> tuple[str, str, str | None]:
        """Access key, secret key and session token, renewed if they are about to expire.

        Raises:
            BotoCoreError: There are no credentials.
        """
        found = self.session.get_credentials()
        if found is None:
            raise NoCredentialsError
        keys = found.get_frozen_credentials()
        return keys.access_key, keys.secret_key, keys.token

    def credentials_expire(self) -> bool:
        """Whether the credentials that `credentials` gives will be renewed within minutes."""
        found = self.session.get_credentials()
        return isinstance(found, RefreshableCredentials) and found.refresh_needed()


def connect(*, connections: int) -> Connection:
    """Make the client.

    Args:
        connections: Number of connections kept open; if they are fewer than the threads, threads
            wait for each other.

    Raises:
        StorageError: The settings name a profile that does not exist, or are unusable otherwise.
    """

    def client(session: Any, addressing: str) -> Any:
        config = Config(
            max_pool_connections=connections,
            connect_timeout=10,
            read_timeout=60,
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3={"addressing_style": addressing},
        )
        return session.client("s3", config=config)

    try:
        core = botocore.session.get_session()
        session = boto3.session.Session(botocore_session=core)
        made = client(session, "virtual")
        if not (urlsplit(made.meta.endpoint_url).hostname or "").endswith(_AWS):
            # Another server than AWS: bucket names are seldom subdomains there.
            made = client(session, "path")
        return Connection(session, made, core.get_config_variable("ca_bundle"))
    except (BotoCoreError, ValueError) as error:
        raise StorageError(f"the AWS settings cannot be used: {one_line(str(error))}") from None
