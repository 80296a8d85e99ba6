"""The files of a finished task, as new-api's release candidate 30 lists them.

Sources: new-api ``controller/task.go`` and ``router/task-router.go`` of that candidate. The links
of a list are signed, and good for whoever has them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from urllib.parse import quote

from attrs import Factory, frozen

KEY = "video"
"""The one file that a video's task has."""

HEADERS = {"Cache-Control": "private, no-store"}
"""What a file comes with, in the place of what ``/content`` has."""

NOT_FOUND = "Task or artifact not found"


@frozen
class Artifacts:
    """Signs the links of one gateway."""

    _secret: bytes = Factory(lambda: secrets.token_bytes(16))

    def describe(self, video_id: str, kind: str, base: str) -> dict[str, str]:
        """The entry of a video in the list of its task.

        Args:
            video_id: The task.
            kind: The type of the bytes.
            base: Where the gateway is.
        """
        name = quote(_bytes(video_id), safe="")
        link = f"{base}/v1/tasks/{name}/artifacts/{KEY}/content?access={self._access(video_id)}"
        return {"key": KEY, "type": "video", "mime_type": kind, "content_url": link}

    def grants(self, video_id: str, access: str) -> bool:
        """Whether a signature is that of this task's video."""
        return hmac.compare_digest(self._access(video_id).encode(), _bytes(access))

    def _access(self, video_id: str) -> str:
        return hashlib.blake2b(_bytes(video_id), key=self._secret, digest_size=16).hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
