"""What tests know of an S3 server, whichever program it is: address, keys, and buckets created without Penstock."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An S3 server and one of its users."""

    url: str
    access_key: str
    secret_key: str

    def facts(self) -> dict[str, str]:
        return asdict(self)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a user of this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def at(self, url: str) -> Endpoint:
        """Return the same user at another address, such as a proxy's."""
        return replace(self, url=url)

    def client(self) -> Any:
        """Return a boto3 client: a back door, as another program uses."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def new_bucket(self, *, versioned: bool = False) -> str:
        """Create an empty bucket and return its name."""
        name, client = f"test-{uuid.uuid4().hex[:20]}", self.client()
        client.create_bucket(Bucket=name)
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name


def wait_until_it_answers(endpoint: Endpoint, check: Callable[[], None], seconds: float) -> None:
    """Wait for any HTTP answer; `check` raises if there is no more hope."""
    deadline = time.monotonic() + seconds
    while True:
        check()
        try:
            urllib.request.urlopen(endpoint.url, timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{endpoint.url} did not answer within {seconds:g} s") from None
            time.sleep(0.02)
            continue
        return
