"""The checker of jobs' histories finds what is wrong, and nothing else."""

from dataclasses import replace

import pytest


@pytest.fixture
def checker():
    """The module."""
    import job_history

    return job_history


RUN, AGAIN = "started", "deferred_for_retry"


def job(checker, *events, status="succeeded", attempts=None, begun=None, done=None, **rest):
    """A job of 3 runs at most, whose row and marks agree with its events unless they are given."""
    runs = events.count(RUN)
    return checker.JobHistory(
        **{
            "job_id": 1,
            "status": status,
            "attempts": runs if attempts is None else attempts,
            "limit": 3,
            "events": ("deferred", *events),
            "begun": runs if begun is None else begun,
            "done": int(status == "succeeded") if done is None else done,
            **rest,
        }
    )


def rules(checker, *jobs, acknowledged=(1,)):
    """What is found."""
    return [fault.rule for fault in checker.faults(acknowledged, jobs)]


@pytest.mark.parametrize(
    ("events", "facts"),
    [
        ((RUN, "succeeded"), {}),
        ((RUN, "scheduled", AGAIN, RUN, "succeeded"), {}),
        ((RUN, AGAIN, RUN, AGAIN, RUN, "failed"), {"status": "failed"}),
        ((RUN, AGAIN, RUN, AGAIN, RUN, "failed"), {"status": "failed", "begun": 1}),  # killed between the fetch and the mark
        ((RUN, AGAIN, RUN, "succeeded"), {"done": 2}),  # killed between the mark and the status
        ((RUN, AGAIN, "cancelled"), {}),  # swept, and ended by its first run while it waited
        ((RUN, "abort_requested", "aborted"), {"status": "aborted", "ends": frozenset({"aborted"})}),
        ((RUN, "failed", "retried", RUN, "succeeded"), {}),
        ((RUN, AGAIN, RUN, AGAIN, RUN, "failed"), {"status": "failed", "ends": frozenset({"failed"})}),
    ],
)
def test_what_may_happen_is_no_fault(checker, events, facts):
    """Runs are repeated after a requeue, and a job ends once (invariants 59, 60)."""
    assert [] == checker.faults([1], [job(checker, *events, **facts)])


def test_a_lost_job_is_found(checker):
    """Somebody was told its id, and there is no row (invariant 59)."""
    [fault] = checker.faults([1, 2], [job(checker, RUN, "succeeded")])
    assert (2, checker.LOST, "job 2: lost (its row is gone)") == (fault.job_id, fault.rule, str(fault))


@pytest.mark.parametrize(("events", "status"), [((RUN,), "doing"), ((), "todo"), ((RUN, AGAIN), "todo")])
def test_a_job_that_is_left_is_found(checker, events, status):
    """Doing or waiting when everything is over (invariant 63)."""
    assert [checker.LEFT] == rules(checker, job(checker, *events, status=status))


def test_a_run_without_a_requeue_is_found(checker):
    """By the queue's events, and by marks of which the queue knows nothing (invariant 60)."""
    assert [checker.TWICE_RUN] == rules(checker, job(checker, RUN, RUN, "succeeded"))
    assert [checker.UNRECORDED] == rules(checker, job(checker, RUN, "succeeded", begun=2, done=2))


@pytest.mark.parametrize("second", ["succeeded", "failed", "aborted", "cancelled"])
def test_a_job_that_ended_twice_is_found(checker, second):
    """Whichever the two ends are."""
    assert [checker.TWICE_ENDED] == rules(checker, job(checker, RUN, "succeeded", second))


def test_a_run_after_the_end_is_found(checker):
    """Also where it ends in turn."""
    assert [checker.AFTER_END] == rules(checker, job(checker, RUN, "succeeded", RUN))
    assert [checker.AFTER_END, checker.TWICE_ENDED] == rules(checker, job(checker, RUN, "succeeded", RUN, "succeeded"))


@pytest.mark.parametrize("event", ["succeeded", "failed", "aborted", "deferred_for_retry", "retried", "unheard of"])
def test_a_step_that_there_is_not_is_found(checker, event):
    """A job ends or is requeued when it was started."""
    assert checker.IMPOSSIBLE in rules(checker, job(checker, event))


def test_an_end_without_the_work_is_found(checker):
    """The queue says succeeded, and the job never got to its end."""
    assert [checker.UNDONE] == rules(checker, job(checker, RUN, "succeeded", done=0))


def test_the_limit_is_held_in_both_directions(checker):
    """A poison job runs neither once more nor once less (invariant 62)."""
    thrice = job(checker, RUN, AGAIN, RUN, AGAIN, RUN, "failed", status="failed")
    assert [checker.TOO_OFTEN] == rules(checker, replace(thrice, limit=2))
    assert [checker.TOO_SOON] == rules(checker, replace(thrice, limit=4))
    assert [checker.TOO_OFTEN] == rules(checker, replace(thrice, attempts=4))


def test_the_wrong_end_is_found(checker):
    """A poison job cannot succeed, and nobody asked for an abort."""
    assert [checker.WRONG_END] == rules(checker, job(checker, RUN, "succeeded", ends=frozenset({"failed"})))
    assert [checker.WRONG_END] == rules(checker, job(checker, RUN, "aborted", status="aborted"))


def test_jobs_that_nobody_was_told_of_are_held_to_the_rules(checker):
    """The database may have taken a job and been unable to say so."""
    assert [checker.LEFT] == rules(checker, job(checker, RUN, status="doing"), acknowledged=())
