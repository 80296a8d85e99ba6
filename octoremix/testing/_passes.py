"""The gateway's passes over its unfinished tasks, one task after the other.

new-api asks the upstream of each channel for one task at a time and rests a second in between
(``controller/task.go``), so that with many tasks a pass takes long, and the next one waits for it.
What a task's turn is depends on all the others then; hence this is the one place that is worked
out step by step. Still nothing runs: the steps are made up for when somebody asks.
"""

from __future__ import annotations

import math
from collections import deque

from attrs import Factory, define

from ._jobs import Job, read


@define(eq=False)
class _Channel:
    """The tasks of one upstream.

    Attributes:
        waiting: Those that have not been seen to end, the oldest first.
        turns: Those whose turn is still to come in the present pass.
        free_at: When the next turn may be.
        begins_at: When the next pass may begin.
    """

    waiting: list[Job] = Factory(list)
    turns: deque[Job] = Factory(deque)
    free_at: float = 0.0
    begins_at: float = 0.0


@define(eq=False)
class Passes:
    """Gives each task its turns.

    Attributes:
        refresh: Seconds between the beginnings of two passes, at least.
        spacing: Seconds between two tasks of one channel.
        sweep_after: Seconds after which a task is given up, and has no turns any more.
    """

    refresh: float
    spacing: float
    sweep_after: float
    _channels: dict[str, _Channel] = Factory(dict)

    def add(self, job: Job) -> None:
        """Take a task on; its model stands for its channel."""
        channel = self._channels.setdefault(job.model, _Channel())
        self._catch_up(channel, job.accepted_at)
        if not channel.waiting:
            # Passes begin at multiples, until one of them takes too long for that.
            channel.begins_at = (math.floor(job.accepted_at / self.refresh) + 1) * self.refresh
        channel.waiting.append(job)

    def catch_up(self, now: float) -> None:
        """Give all the turns until now."""
        for channel in self._channels.values():
            self._catch_up(channel, now)

    def _catch_up(self, channel: _Channel, now: float) -> None:
        while channel.waiting:
            if not channel.turns:
                start = max(channel.begins_at, channel.free_at)
                if start > now:
                    return
                self._begin(channel, start)
            elif channel.free_at > now:
                return
            elif self._goes_on(job := channel.turns.popleft(), channel.free_at):
                job.seen_at = channel.free_at
                if read(job, job.seen_at).phase.ended:
                    job.end_seen_at = job.seen_at
                channel.free_at += self.spacing

    def _begin(self, channel: _Channel, start: float) -> None:
        channel.waiting = [job for job in channel.waiting if self._goes_on(job, start)]
        channel.turns.extend(channel.waiting)
        channel.free_at = start
        channel.begins_at = start + self.refresh

    def _goes_on(self, job: Job, now: float) -> bool:
        return not job.lost and job.end_seen_at is None and now < job.accepted_at + self.sweep_after
