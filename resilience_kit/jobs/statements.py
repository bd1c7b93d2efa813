"""The statements that write a job's status, fenced: each applies only while the job still belongs to the writer.

The jobs of a worker that was blocked for too long are swept and run by another: `worker_id` is its owner. The worker may also
fetch its own job again while the first run goes on; `attempts` distinguishes the two. A job that no worker has fetched since may
still be finished as succeeded by its first one, which saves a second run.
"""

from __future__ import annotations

from typing import Final, LiteralString

_MINE: Final[LiteralString] = "(worker_id IS NULL OR worker_id = %(worker_id)s)"
_LATEST: Final[LiteralString] = "attempts = %(attempts)s"
#: By the database's clock alone, and by its current time, not by the transaction's: that distinguishes a sweep's retries from
#: all others, see `sweep`.
_DUE: Final[LiteralString] = "clock_timestamp() + make_interval(secs => %(delay)s)"

FINISH: Final[LiteralString] = f"""
SELECT job.id, procrastinate_finish_job_v1(job.id, %(status)s::procrastinate_job_status, %(delete_job)s)
  FROM (SELECT id FROM procrastinate_jobs
         WHERE id = %(job_id)s AND status IN ('todo', 'doing') AND {_MINE}
           AND (%(status)s = 'succeeded' OR {_LATEST})
           FOR UPDATE) AS job
"""  # noqa: S608 - made of constants

RETRY_WITHOUT_NOTE: Final[LiteralString] = f"""
SELECT job.id, procrastinate_retry_job_v2(job.id, {_DUE}, %(priority)s, %(queue)s, %(lock)s)
  FROM (SELECT id FROM procrastinate_jobs
         WHERE id = %(job_id)s AND status = 'doing' AND {_MINE} AND {_LATEST}
           FOR UPDATE) AS job
"""  # noqa: S608 - the same

_NOTE: Final[LiteralString] = """
INSERT INTO resilience_kit_job_errors AS known (job_id, attempt, error_type, location, details)
SELECT job.id, %(attempts)s + 1, %(error_type)s, %(location)s, %(details)s FROM job
    ON CONFLICT (job_id) DO UPDATE
   SET attempt = excluded.attempt, at = excluded.at, error_type = excluded.error_type, location = excluded.location,
       details = excluded.details
"""

#: The same two for a run that failed, with its error.
FAIL: Final[LiteralString] = f"""
WITH job AS (
    SELECT id FROM procrastinate_jobs
     WHERE id = %(job_id)s AND status IN ('todo', 'doing') AND {_MINE} AND {_LATEST}
       FOR UPDATE
), noted AS ({_NOTE})
SELECT job.id, procrastinate_finish_job_v1(job.id, %(status)s::procrastinate_job_status, %(delete_job)s) FROM job
"""  # noqa: S608 - made of constants

RETRY: Final[LiteralString] = f"""
WITH job AS (
    SELECT id FROM procrastinate_jobs
     WHERE id = %(job_id)s AND status = 'doing' AND {_MINE} AND {_LATEST}
       FOR UPDATE
), noted AS ({_NOTE})
SELECT job.id, procrastinate_retry_job_v2(job.id, {_DUE}, %(priority)s, %(queue)s, %(lock)s) FROM job
"""  # noqa: S608 - the same

#: Seconds since the job's first run began.
AGE: Final[LiteralString] = """
SELECT extract(epoch FROM now() - min(at))::float8 AS age
  FROM procrastinate_events WHERE job_id = %(job_id)s AND type = 'started'
"""

#: Costs no attempt. An abort that was requested meanwhile is carried out.
POSTPONE: Final[LiteralString] = f"""
UPDATE procrastinate_jobs
   SET status = CASE WHEN abort_requested THEN 'aborted' ELSE 'todo' END::procrastinate_job_status,
       scheduled_at = {_DUE},
       abort_requested = false
 WHERE id = %(job_id)s AND status = 'doing' AND {_MINE} AND {_LATEST}
RETURNING id
"""  # noqa: S608 - the same

#: A worker that was pruned is back: it needs its row to fetch jobs.
REVIVE: Final[LiteralString] = """
INSERT INTO procrastinate_workers (id) OVERRIDING SYSTEM VALUE VALUES (%(worker_id)s)
    ON CONFLICT (id) DO UPDATE SET last_heartbeat = now()
"""

#: No worker could send a heartbeat while the database was down. Each has as long after the database's start.
LAST_SEEN: Final[LiteralString] = "GREATEST(worker.last_heartbeat, pg_postmaster_start_time())"

PRUNE: Final[LiteralString] = f"""
DELETE FROM procrastinate_workers AS worker
 WHERE {LAST_SEEN} < now() - make_interval(secs => %(stalled_timeout)s)
RETURNING worker.id
"""  # noqa: S608 - the same

STATUS_WRITES: Final[frozenset[LiteralString]] = frozenset({FINISH, FAIL, RETRY, RETRY_WITHOUT_NOTE, POSTPONE, REVIVE, PRUNE})
