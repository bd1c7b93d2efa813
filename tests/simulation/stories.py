"""Whether what was seen of some threads could have come about one step after the other.

An actor's begin (it is let in or refused) and its end (what its function came to is reckoned in) are each one step, somewhere
between what was seen before and after it. All orders are tried that do not contradict what was seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

from resilience_kit.policies.breaker import CircuitState
from tests.simulation.model import BreakerModel, End, Pass

What = Literal["success", "failure", "neutral", "reset", "force", "tick"]
CALLS: tuple[What, ...] = ("success", "failure", "neutral")
TICK = 10.0


@dataclass(frozen=True, slots=True)
class Mark:
    """What was seen: an actor starts, its function begins and ends, it is done."""

    actor: int
    sign: Literal["starts", "begins", "ends", "done"]


class Story(BreakerModel):
    """One way in which it may have come about so far: a model, with the passes and progress of the actors."""

    seconds: float
    passes: dict[int, Pass]
    done: dict[int, str]

    @classmethod
    def beginning(cls, model: BreakerModel, seconds: float) -> Story:
        """Nobody has done anything."""
        story = cls.__new__(cls)
        story.__dict__.update(model.__dict__)
        del story.__dict__["_now"]
        story.seconds, story.passes, story.done, story.moves = seconds, {}, {}, []
        return story

    def _now(self) -> float:  # type: ignore[override]  # a method instead of a function that was given
        return self.seconds

    def _copy(self) -> Story:
        story = Story.__new__(Story)
        story.__dict__.update(self.__dict__)
        copies = {id(each): _copied(each) for each in (*self.passes.values(), *self.trials)}
        story.passes = {actor: copies[id(each)] for actor, each in self.passes.items()}
        story.trials = [copies[id(each)] for each in self.trials]
        story.done, story.moves = dict(self.done), list(self.moves)
        return story

    def key(self) -> tuple[Any, ...]:
        """Equal for stories that go on in the same ways."""
        passes = tuple((actor, each.stay, each.lease_ends, each.settled) for actor, each in sorted(self.passes.items()))
        counts = (self.stay, self.failures, self.good_trials, self.refusals, self.counted_failures, self.times_opened)
        return self.state, self.until, self.seconds, counts, passes, tuple(sorted(self.done.items())), tuple(self.moves)

    def next_step(self, actor: int, what: What, *, has_ended: bool) -> Story | None:
        """This story with the actor's next step, if it may take one now."""
        if actor in self.done or (actor in self.passes and not has_ended):
            return None
        story = self._copy()
        if what not in CALLS:
            story._obey(what)
            story.done[actor] = "ran"
        elif actor in story.passes:
            story.end(story.passes[actor], cast("End", what))
            story.done[actor] = "ran"
        else:
            leave = story.ask()
            if leave is None:
                story.done[actor] = "refused"
            else:
                story.passes[actor] = leave
        return story

    def _obey(self, what: What) -> None:
        if what == "tick":
            self.seconds += TICK
        else:
            self.order(CircuitState.CLOSED if what == "reset" else CircuitState.FORCED_OPEN)

    def agrees_with(self, mark: Mark, said: str) -> bool:
        """Whether the story can have come as far as this without the actor's being somewhere else."""
        if mark.sign == "begins":
            return mark.actor in self.passes and mark.actor not in self.done
        return mark.sign != "done" or self.done.get(mark.actor) == said


def _copied(leave: Pass) -> Pass:
    copy = Pass(leave.stay, leave.lease_ends)
    copy.settled = leave.settled
    return copy


def stories_of(first: Story, marks: Iterable[Mark], whats: list[What], said: dict[int, str]) -> list[Story]:
    """All stories that agree with what was seen."""
    possible = {first.key(): first}
    under_way: dict[int, bool] = {}
    for mark in marks:
        if mark.sign in {"starts", "ends"}:
            under_way[mark.actor] = mark.sign == "ends"
        else:
            _go_on(possible, under_way, whats)
            possible = {key: story for key, story in possible.items() if story.agrees_with(mark, said[mark.actor])}
        if mark.sign == "done":
            del under_way[mark.actor]
    return list(possible.values())


def _go_on(possible: dict[Any, Story], under_way: dict[int, bool], whats: list[What]) -> None:
    """Add all that may come of these by steps of those who are under way."""
    new = list(possible.values())
    while new:
        story = new.pop()
        for actor, has_ended in under_way.items():
            after = story.next_step(actor, whats[actor], has_ended=has_ended)
            if after is not None and possible.setdefault(after.key(), after) is after:
                new.append(after)
