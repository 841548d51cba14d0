"""What tests ask of a store, beyond what it offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import botocore.config
import botocore.session
import pytest

from seekfs_core.errors import StoreFailure
from seekfs_io.config import S3Config
from seekfs_io.objects.base import ObjectStat, ObjectStore, StoreError


def listed(store: ObjectStore, prefix: str = "") -> list[ObjectStat]:
    """Every object whose key begins with ``prefix``, page after page; raises ``StoreError``."""
    page = store.list_page(prefix)
    found = [*page.objects]
    while page.next_token is not None:
        page = store.list_page(prefix, page.next_token)
        found += page.objects
    return found


def drain(store: ObjectStore, key: str, **arguments: Any) -> bytes:
    """The bytes of one GET; ``arguments`` as of ``get``. Raises ``StoreError``."""
    content = bytearray()
    view = memoryview(bytearray(1 << 20))
    with store.get(key, **arguments) as reader:
        while count := reader.readinto(view):
            content += view[:count]
    return bytes(content)


def failure_of(call: Callable[[], object]) -> StoreFailure:
    """Of a call that has to fail."""
    with pytest.raises(StoreError) as caught:
        call()
    return caught.value.failure


class Bystander:
    """Somebody else with the keys to the bucket: sees and does what seekfs never does, by another client."""

    def __init__(self, s3: S3Config) -> None:
        self._bucket = s3.bucket
        self._client: Any = botocore.session.Session().create_client(
            "s3",
            region_name=s3.region,
            endpoint_url=s3.endpoint,
            aws_access_key_id=s3.access_key_id,
            aws_secret_access_key=s3.secret_access_key,
            config=botocore.config.Config(s3={"addressing_style": "path"}),
        )

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._client.delete_object(Bucket=self._bucket, Key=key)

    def uploads(self, prefix: str) -> dict[str, str]:
        """The multipart uploads that were begun and not ended: their keys, by their ids."""
        answer = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=prefix)
        assert not answer["IsTruncated"]
        return {each["UploadId"]: each["Key"] for each in answer.get("Uploads", ())}
