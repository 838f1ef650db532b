"""Whose job is next: owners take turns; each one's jobs go by priority, then by place. Pure: what the queue does and what it foretells."""

import heapq
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

LOW, NORMAL, HIGH = -1, 0, 1
PRIORITIES = {"low": LOW, "normal": NORMAL, "high": HIGH}
PRIORITY_NAMES = {value: name for name, value in PRIORITIES.items()}
EVERYBODY = "*"  # stands for all owners where a pause is meant; no client can have this name


@dataclass(frozen=True)
class Waiting:
    """What decides when a job that waits is taken."""

    number: int
    id: str
    owner: str
    priority: int  # one of PRIORITIES: high goes before the owner's other jobs, low after everybody's
    place: int  # among the owner's jobs of one priority


def taking_order(waiting: Sequence[Waiting], turns: Mapping[str, int], paused: Container[str] = ()) -> list[Waiting]:
    """All jobs in the order in which they will be taken, as things stand; those of paused owners come last.

    turns: when each owner was last served, rising; owners that are not in it were never. High priority takes nobody else's turn: it orders
    one owner's own jobs. Low priority gives way to all other jobs.
    """
    going = [job for job in waiting if job.owner not in paused]
    held = [job for job in waiting if job.owner in paused]
    last, ordered = dict(turns), []
    for group in (going, held):
        for low in (False, True):
            ordered += _rounds([job for job in group if (job.priority == LOW) is low], last)
    return ordered


def _rounds(waiting: Sequence[Waiting], last: dict[str, int]) -> list[Waiting]:
    """One owner after another, the one served longest ago first; newcomers by the age of their oldest job. Notes the turns in `last`."""
    jobs: dict[str, list[Waiting]] = defaultdict(list)
    for job in sorted(waiting, key=lambda job: (job.priority, -job.place)):
        jobs[job.owner].append(job)  # the next one is the last of its list
    queue = [(last.get(owner, 0), min(job.number for job in own), owner) for owner, own in jobs.items()]
    heapq.heapify(queue)
    turn, ordered = max(last.values(), default=0), []
    while queue:
        _, first, owner = heapq.heappop(queue)
        ordered.append(jobs[owner].pop())
        turn += 1
        last[owner] = turn
        if jobs[owner]:
            heapq.heappush(queue, (turn, first, owner))
    return ordered
