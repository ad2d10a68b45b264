"""Replaying a recorded run against the code as it is now: would a run under way survive the change?

The function is run as a server would run it, but nothing that it asks for is done: each step that the recording has
gives its recorded result, and each that it has not is reported. No step's code runs, no event leaves; the code between
the steps does run, as it does in each call.

**Which difference is the first?** A run under way at the moment of a deploy has the first so many steps of the
recording, whatever that number is. So for each number the code must come to the next recorded step. If the code comes
to all steps in exactly the order of the recording, one call shows that; otherwise (branches side by side finish in
any order) the numbers are gone through one by one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import msgspec

from perdure.protocol.ids import hash_step_id
from perdure.protocol.memos import data_memo, error_memo
from perdure.sdk import codec
from perdure.sdk.app import App
from perdure.sdk.calling import run_job
from perdure.sdk.function import Function
from perdure.sdk.http import Answer
from perdure.sdk.job import DEFAULT_ATTEMPTS, Job
from perdure.sdk.middleware import Payload
from perdure.sdk.reply import Reply
from perdure.testing.differences import (
    Difference,
    Kind,
    Replay,
    Told,
    in_the_past,
    listed,
    new_step,
    place_after,
)
from perdure.testing.failures import UnknownStep, near
from perdure.testing.recording import RecordedStep, Recording, Source, read_recording
from perdure.testing.run_steps import read_run_error

T = TypeVar("T")


def replay_export(
    source: Source,
    app: App,
    *,
    function: Function[Any, Any] | None = None,
    results: Mapping[str, Any] | None = None,
    run_new_steps: bool = False,
) -> Replay:
    """Replay an exported run against the code of an app.

    `source` is a file, or the document. `function` names the one to run if it has another id now. `results` are those
    of steps that the recording has not, by their ids: such steps are no difference then, and the code goes on with
    these results. With `run_new_steps` the code of new steps is really run (of `step.run`; what the server would do,
    such as a sleep or an invoke, still needs a result).

    Raises `UsageError` if the export cannot be used, `UnknownStep` if the app has no such function.
    """
    recording = read_recording(source)
    chosen = function or _function(app, recording)
    replayer = _Replayer(recording, app, chosen, dict(results or {}), run_new_steps)
    return _alone(replayer.replay())


class _Log(dict[str, bytes]):
    """Memos that remember in which order they were asked for."""

    def __init__(self, memos: Mapping[str, bytes]) -> None:
        super().__init__(memos)
        self.asked: dict[str, None] = {}

    def get(self, key: str, default: Any = None) -> Any:
        if key in self:
            self.asked[key] = None
        return super().get(key, default)


class _Op(msgspec.Struct):
    id: str
    op: str = ""
    displayName: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Replayer:
    def __init__(
        self,
        recording: Recording,
        app: App,
        function: Function[Any, Any],
        results: dict[str, Any],
        run_new_steps: bool,
    ) -> None:
        self.recording = recording
        self.app = app
        self.function = function
        self.given = {
            hash_step_id(step_id, 0): data_memo(codec.encode(value, f'results["{step_id}"]'))
            for step_id, value in results.items()
        }
        """Memos of steps that the recording has not."""
        self.run_new_steps = run_new_steps
        self.steps = recording.steps
        self.known = {step.id: step for step in recording.steps}
        self.pending = {item.step: item.name or item.step for item in recording.pending if item.step}

    async def replay(self) -> Replay:
        undo = self.app.api.through(_Nowhere())
        try:
            whole, asked = await self._call(len(self.steps))
            difference: Difference | None = None
            recorded = [step.id for step in self.steps]
            if [one for one in asked if one in self.known] != recorded or self._extra(whole):
                difference = await self._first_difference(asked)
            difference = difference or self._at_the_end(whole)
        finally:
            undo()
        after = len(self.steps) if difference is None else difference.after
        return Replay(self.function.slug, [step.name for step in self.steps[:after]], difference)

    async def _first_difference(self, asked: list[str]) -> Difference | None:
        """Go through all numbers of steps. `asked` are those that the code comes to when it has all."""
        for count, step in enumerate(self.steps):
            told, _ = await self._call(count)
            if step.id not in told.steps:
                return self._not_reached(count, step, told, step.id in asked)
            extra = self._extra(told)
            if extra:
                return new_step(count, extra)
        return None

    def _not_reached(self, count: int, step: RecordedStep, told: Told, later: bool) -> Difference:
        recorded = f'goes on with "{step.name}"'
        kind: Kind
        if told.ended or not told.steps:
            kind, advice = "missing", "A run under way ends here now, without what came next."
        elif any(one not in self.known and one not in self.pending for one in told.steps):
            kind, advice = (
                "renamed",
                "For a run under way that is a new step: if it is the old one, keep its id.",
            )
        elif later:
            kind, advice = "order", "A run under way goes on in the new order; what has been done stays done."
        else:
            kind, advice = "missing", "A run under way goes on without it."
        text = f"{place_after(self.steps[:count])} the recording {recorded}, but the code {told}. {advice}"
        return Difference(kind, count, recorded, str(told), text)

    def _extra(self, told: Told) -> list[str]:
        """Steps that the recording has not; of a run under way nobody knows that which had not planned any."""
        if self.recording.under_way and not self.pending:
            return []
        known = self.known.keys() | self.pending.keys()
        return [name for one, name in told.steps.items() if one not in known]

    def _at_the_end(self, told: Told) -> Difference | None:
        """Compare the ends, when the code has come to all recorded steps."""
        count, run = len(self.steps), self.recording.run
        place = place_after(self.steps)
        if self.recording.under_way or run.status == "CANCELLED":
            return self._under_way(told, place)
        if not told.ended:
            if told.steps:
                return new_step(count, list(told.steps.values()))
            text = f"{place} the recording ends, but the code {told}."
            return Difference("end", count, "ends", str(told), text)
        failed = read_run_error(bytes(run.output)) if run.status == "FAILED" else None
        output = self._incoming(bytes(run.output)) if failed is None else b"null"
        recorded = Told({}, True, output=output, error=failed)
        if (failed is None) != (told.error is None) or (
            failed is not None and told.error is not None and failed[:2] != told.error[:2]
        ):
            text = f"{place} the run {in_the_past(recorded)}, but the code {told}."
            return Difference("end", count, str(recorded), str(told), text)
        if failed is None and codec.plain(told.output) != codec.plain(output):
            text = f"{place} the run {in_the_past(recorded)}, but the code {told}."
            return Difference("output", count, str(recorded), str(told), text)
        return None

    def _under_way(self, told: Told, place: str) -> Difference | None:
        """The run had not ended: the code must come to what it waited for; otherwise anything is as good."""
        count = len(self.steps)
        lost = [name for one, name in self.pending.items() if one not in told.steps]
        if not self.pending or not lost:
            return None
        recorded = f"waits in {listed(lost)}"
        kind: Kind = "end" if told.ended else "renamed"
        text = f"{place} the run {recorded}, but the code {told}."
        return Difference(kind, count, recorded, str(told), text)

    async def _call(self, count: int) -> tuple[Told, list[str]]:
        """Run the function with the first so many recorded steps; and in which order it asked for them."""
        memos = {step.id: bytes(step.memo) for step in self.steps[:count]}
        while True:
            log = _Log(memos)
            told = self._read(await run_job(self.app, self.function, self._job(log)))
            if self.run_new_steps and not told.ended:
                await self._run_new(told, memos)
            given = [one for one in told.steps if one in self.given and one not in memos]
            if not given:
                return told, list(log.asked)
            memos |= {one: self.given[one] for one in given}

    async def _run_new(self, told: Told, memos: dict[str, bytes]) -> None:
        """Run the code of steps that the recording has not, once."""
        known = self.known.keys() | self.pending.keys() | self.given.keys()
        for one in told.planned:
            if one not in known:
                job = msgspec.structs.replace(self._job(_Log(memos)), target=one, plan_only=False)
                reply = await run_job(self.app, self.function, job)
                ops = msgspec.json.decode(reply.body, type=list[_Op]) if reply.status == 206 else []
                for op in ops:
                    if op.id == one:
                        self.given[one] = (
                            data_memo(bytes(op.data))
                            if isinstance(op.error, msgspec.UnsetType)
                            else error_memo(bytes(op.error))
                        )

    def _read(self, reply: Reply) -> Told:
        if reply.status == 206:
            ops = msgspec.json.decode(reply.body, type=list[_Op])
            planned = [op.id for op in ops if op.op == "StepPlanned"]
            return Told({op.id: op.displayName for op in ops}, False, planned)
        if reply.status >= 400:
            return Told({}, True, error=read_run_error(reply.body))
        return Told({}, True, output=self._incoming(reply.body))

    def _incoming(self, raw: bytes) -> bytes:
        """An output as code would get it: middleware may write the same value in many ways."""
        chain = self.function.chain
        return raw if chain is None else chain.incoming(raw, Payload("function", self.function.slug))

    def _job(self, memos: _Log) -> Job:
        events = [bytes(event) for event in self.recording.events]
        return Job(
            run_id=self.recording.run.id,
            target=None,
            event=events[0],
            events=events,
            steps=memos,
            attempt=0,
            max_attempts=DEFAULT_ATTEMPTS,
            plan_only=True,
            from_api=False,
        )


class _Nowhere:
    """Takes what code sends beside its steps, which a replay must not do again."""

    async def request(
        self, method: str, path: str, body: bytes = b"", _: Mapping[str, str] | None = None
    ) -> Answer:
        if method == "POST" and path.startswith("/e/"):
            count = len(msgspec.json.decode(body))
            return Answer(200, {}, msgspec.json.encode({"ids": ["replayed"] * count, "status": 200}))
        return Answer(404, {}, b'{"error":"a replay reaches no server","status":404}')


def _function(app: App, recording: Recording) -> Function[Any, Any]:
    slug = "" if recording.function is None else recording.function.slug
    found = app.functions.get(slug)
    if found is None:
        raise UnknownStep(
            f'The recording is of the function "{slug}", which {app.name} has not.{near(slug, app.functions)} If it '
            "has another id now: replay_export(..., function=...)."
        )
    return found


def _alone(work: Coroutine[Any, Any, T]) -> T:
    """Run something on an event loop of its own, also where one is running."""
    outcome: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="perdure-replay")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]
