"""What a key can learn about itself: its usage and its log.

Sources: OctopusX documentation, "Query Token Usage"; new-api ``controller/log.go`` and
``middleware/rate-limit.go`` (the critical limiter).
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from aiohttp import web
from attrs import Factory, define

from ._answers import json_answer
from ._books import BookedJob, Books
from ._calls import Route
from ._money import Ledger

MOST_REQUESTS = 20
SPAN = 1200.0
"""Seconds in which an address may make so many requests (``CRITICAL_RATE_LIMIT``)."""


@define(eq=False)
class Account:
    """Answers these two routes, also to keys with nothing left."""

    ledger: Ledger
    books: Books
    _times: deque[float] = Factory(deque)

    def answer(self, route: Route, key: str | None, header: str, now: float) -> web.Response:
        """The answer.

        Args:
            route: `Route.USAGE` or `Route.LOG`.
            key: The key, None if it is not known.
            header: The ``Authorization`` header.
            now: The present on the loop's clock.
        """
        while self._times and self._times[0] <= now - SPAN:
            self._times.popleft()
        if len(self._times) >= MOST_REQUESTS:
            return web.Response(status=429)
        self._times.append(now)
        if key is None:
            message = "Invalid Bearer token" if header else "No Authorization header"
            return json_answer({"success": False, "message": message}, 401)
        return json_answer(self._usage(key, now) if route is Route.USAGE else self._log(key, now))

    def _usage(self, key: str, now: float) -> dict[str, Any]:
        wanted = self.ledger.keys[key]
        used = self.ledger.used(key, now)
        left = self.ledger.left(key, now)
        data = {
            "object": "token_usage",
            "name": "emulator",
            "total_granted": used + (left or 0),
            "total_used": used,
            "total_available": left or 0,
            "unlimited_quota": left is None,
            "model_limits": dict.fromkeys(wanted.models, True),
            "model_limits_enabled": bool(wanted.models),
            "expires_at": 0,
        }
        return {"code": True, "message": "ok", "data": data}

    def _log(self, key: str, now: float) -> dict[str, Any]:
        """The records, the newest first."""
        records = [
            (booked.accepted_at, self._consumed(booked))
            for booked in self.books.jobs
            if booked.key == key
        ]
        for job, failed_at in self.ledger.refunds(key):
            if failed_at <= now:
                reason = {"task_id": job.id, "reason": "task failed"}
                record = self._record(6, job.model, job.created_at, reason)
                records.append((failed_at, record))
        records.sort(key=lambda record: record[0], reverse=True)
        data = [{"id": len(records) - i, **record} for i, (_, record) in enumerate(records)]
        return {"success": True, "message": "", "data": data}

    def _consumed(self, booked: BookedJob) -> dict[str, Any]:
        source = booked.request.source_id
        # The id of the new task is not in it.
        path = "/v1/videos" if source is None else f"/v1/videos/{source}/remix"
        other = {"is_task": True, "request_path": path, "model_price": self.ledger.price}
        return self._record(2, booked.request.model, booked.created_at, other)

    def _record(
        self, kind: int, model: str, created_at: float, other: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "created_at": int(created_at),
            "type": kind,
            "content": "操作 remixGenerate" if kind == 2 else "",
            "token_name": "emulator",
            "model_name": model,
            "quota": self.ledger.price,
            "use_time": 0,
            "group": "default",
            "other": json.dumps(other),
        }
