"""webui/service/turns.py: the order of taking, against the rules said one at a time."""

from hypothesis import given
from hypothesis import strategies as st

from webui.service.turns import HIGH, LOW, NORMAL, Waiting, taking_order


def jobs(*told: tuple[str, int]) -> list[Waiting]:
    """(id, priority) each, in the order in which they came; the owner is the first letter of the id."""
    return [Waiting(number, name, name[0], priority, number) for number, (name, priority) in enumerate(told, start=1)]


def names(order: list[Waiting]) -> list[str]:
    return [job.id for job in order]


def test_high_priority_goes_before_the_owners_other_jobs_but_takes_nobody_elses_turn() -> None:
    waiting = jobs(("a1", NORMAL), ("a2", HIGH), ("b1", NORMAL), ("a3", HIGH))
    assert names(taking_order(waiting, {})) == ["a2", "b1", "a3", "a1"]


def test_low_priority_gives_way_to_everybody() -> None:
    waiting = jobs(("a1", LOW), ("b1", NORMAL), ("b2", NORMAL), ("c1", LOW))
    assert names(taking_order(waiting, {})) == ["b1", "b2", "a1", "c1"]


def test_who_was_served_longest_ago_is_next() -> None:
    waiting = jobs(("a1", NORMAL), ("b1", NORMAL), ("c1", NORMAL))
    assert names(taking_order(waiting, {"a": 3, "b": 1, "c": 2})) == ["b1", "c1", "a1"]


def test_jobs_of_paused_owners_come_last() -> None:
    waiting = jobs(("a1", HIGH), ("b1", LOW), ("b2", NORMAL))
    assert names(taking_order(waiting, {}, {"a"})) == ["b2", "b1", "a1"]


some_jobs = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([LOW, NORMAL, HIGH]), st.integers(0, 5)), max_size=25)


@given(told=some_jobs, turns=st.permutations("abcd"), paused=st.sets(st.sampled_from("abcd")))
def test_what_is_foretold_is_what_is_taken_one_by_one(told: list[tuple[str, int, int]], turns: list[str], paused: set[str]) -> None:
    """The whole order at once equals: look for the next job, note the turn, look again."""
    waiting = [Waiting(number, str(number), *job) for number, job in enumerate(told)]
    last = {owner: turn for turn, owner in enumerate(turns[:3], start=1)}
    foretold = names(taking_order(waiting, last, paused))
    taken = []
    while waiting:
        job = taking_order(waiting, last, paused)[0]
        waiting.remove(job)
        last[job.owner] = max(last.values()) + 1
        taken.append(job.id)
    assert taken == foretold
    assert sorted(taken) == sorted(map(str, range(len(told))))


@given(told=some_jobs)
def test_between_two_turns_of_an_owner_every_other_one_who_waits_is_served(told: list[tuple[str, int, int]]) -> None:
    waiting = [Waiting(number, str(number), owner, NORMAL, place) for number, (owner, _, place) in enumerate(told)]
    order = [job.owner for job in taking_order(waiting, {})]
    for at, owner in enumerate(order):
        if owner in order[at + 1 :]:
            again = order.index(owner, at + 1)
            assert set(order[again:]) <= set(order[at:again]) | set(order[:at])
            assert len(set(order[at + 1 : again])) == again - at - 1
