"""Run the attempts of protected calls and do all the waiting: `call` holds the rules, `sync`, `aio` and `streams` carry them out.

This package is internal. The orchestrator uses all of it; the capabilities and `limits` use these names and no others:

- `plan`: `Operation`, `CallPlan`, `CallSite`: what is known before the first attempt.
- `call`: `Call`; its time limits are in `deadlines`, its permits in `admission`. `http` extends `succeeded`, `value_so_far`,
  `attempt_deadline_ns`, `timed_out`, `_break_cycles`; calls `first_item_received`, `stream_interrupted`, `abandon` and reads
  `attempts`, `is_streaming`, `_permits`.
- `sync`, `aio`: `drive` runs a `Call`; `run` and `protect` run a function under a `CallSite`.
- `streams`: `protect_generator`, `protect_async_generator`.
- `timeouts`: `timeout_at`, `scheduler_for`, `Timeout`: one timer per event loop for many timeouts. Used by `http` and `jobs`.
- `waiting`: `wait_for_ticket_async` waits for a guard's ticket on an event loop. Used by `limits`.
"""
