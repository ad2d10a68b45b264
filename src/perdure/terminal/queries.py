"""The GraphQL that the commands send. Fields are renamed to those of `records`."""

from __future__ import annotations

_RUN = """fragment R on FunctionRunV2 {
  id status event_name: eventName event_ids: triggerIDs cron: cronSchedule
  queued_at: queuedAt started_at: startedAt ended_at: endedAt original_run_id: originalRunID
  function { id slug name }
}"""

_SPAN = """fragment S on RunTraceSpan {
  name status op: stepOp step_id: stepID attempt: attempts
  queued_at: queuedAt scheduled_at: scheduledAt started_at: startedAt ended_at: endedAt
  duration_ms: duration output_id: outputID copied_from: copiedFrom
  http: response { status: statusCode }
  info: stepInfo {
    kind: __typename
    ... on SleepStepInfo { until: sleepUntil }
    ... on WaitForEventStepInfo {
      event_name: eventName expression timeout timed_out: timedOut found_event_id: foundEventID
    }
    ... on WaitForSignalStepInfo { signal timeout timed_out: timedOut }
    ... on InvokeStepInfo { function: functionID run_id: runID timeout timed_out: timedOut }
  }
}"""

RUNS = (
    """query Runs($first: Int!, $after: String, $filter: RunsFilterV2!) {
  runs(first: $first, after: $after, orderBy: [{field: QUEUED_AT, direction: DESC}], filter: $filter) {
    edges { node { ...R } }
    pageInfo { hasNextPage endCursor }
  }
}
"""
    + _RUN
)

TRACE = (
    """query Trace($id: String!) {
  run(runID: $id) {
    ...R batch_id: batchID reason
    from_step: fromStep { id: stepID name input }
    trace(preview: true) {
      ...S skipped_for: skipExistingRunID
      children: childrenSpans { ...S children: childrenSpans { ...S } }
    }
  }
}
"""
    + _RUN
    + _SPAN
)

APPS = """query Apps {
  apps {
    id name url sdk_language: sdkLanguage sdk_version: sdkVersion error
    functions { id slug name paused overrides triggers { type value condition } }
  }
}"""

RERUN = "mutation Rerun($id: ULID!, $from: RerunFromStepInput) { rerun(runID: $id, fromStep: $from) }"

OUTPUTS_AT_ONCE = 20
"""The server answers so many questions in one query."""


def outputs(count: int) -> str:
    """A query for so many results: `o0` is that of `$i0`, and so on."""
    given = ", ".join(f"$i{n}: String!" for n in range(count))
    asked = " ".join(
        f"o{n}: runTraceSpanOutputByID(outputID: $i{n}) {{ input data error {{ name message stack }} }}"
        for n in range(count)
    )
    return f"query Outputs({given}) {{ {asked} }}"
