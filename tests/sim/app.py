"""The simulated apps: an SDK that speaks the protocol, and the code of the functions behind it.

A call runs the function from its start, with the steps that the call carries. What the function meets next and does
not know is its frontier: one step of code alone is executed at once, anything else is reported. An app whose SDK posts
checkpoints goes on by itself, and posts each finished step to the server while the call is under way; it does not
notice when the server has given the call up, until a post is refused.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from perdure.protocol.calls import Call, CallAnswer
from perdure.protocol.durations import format_duration, format_time
from tests.sim.programs import (
    Awaited,
    Fetch,
    Flaky,
    Invoke,
    Node,
    Parallel,
    Program,
    Signal,
    Sleep,
    Step,
    Wait,
    hashed,
)
from tests.sim.trace import Trace
from tests.sim.virtual_time import SimClock

POST_TRIES = 5


class StaleCall(Exception):
    """The server says that another call has taken over."""


@dataclass
class Walk:
    """How far a function gets with the steps that it knows."""

    frontier: list[tuple[Awaited, bool]] = field(default_factory=list)
    """What comes next, and whether in race mode."""
    output: list[object] = field(default_factory=list)
    error: dict[str, str] | None = None
    """What the function throws, if it does."""
    final: bool = False


def walk(nodes: Sequence[Node], memos: dict[str, object], attempt: int) -> Walk:
    """Run a function as far as the known steps carry it."""
    found = Walk()
    _walk(nodes, memos, attempt, found, race=False)
    return found


def _walk(nodes: Sequence[Node], memos: dict[str, object], attempt: int, found: Walk, race: bool) -> bool:
    """Whether the end of the nodes was reached."""
    for node in nodes:
        if isinstance(node, Flaky):
            if attempt < node.until:
                found.error, found.final = {"name": "Error", "message": "flaky"}, node.final
                return False
        elif isinstance(node, Parallel):
            ended = [_walk(branch, memos, attempt, found, node.race) for branch in node.branches]
            if found.error is not None or not all(ended):
                return False
        else:
            if hashed(node) not in memos:
                found.frontier.append((node, race))
                return False
            memo = memos[hashed(node)]
            if isinstance(memo, dict) and set(memo) == {"error"}:
                error = memo["error"]
                if not getattr(node, "caught", True):
                    found.error, found.final = {"name": error["name"], "message": error["message"]}, True
                    return False
                found.output.append([node.id, f"!{error['name']}"])
            else:
                wrapped = isinstance(memo, dict) and set(memo) == {"data"}
                found.output.append([node.id, memo["data"] if isinstance(memo, dict) and wrapped else memo])
    return True


def _is_input(memo: object) -> bool:
    return isinstance(memo, dict) and set(memo) == {"input"}


Post = Callable[[str, str, int, list[dict[str, object]]], Awaitable[int]]
"""Posts steps: run id, queue item id, generation, operations. Gives the HTTP status, 0 if none came."""
SendEvent = Callable[[dict[str, object], str], Awaitable[None]]


class App:
    """One app process. `executions` are the results that the code of a step gave, by run and hash, in order."""

    def __init__(self, name: str, programs: Sequence[Program], clock: SimClock, trace: Trace) -> None:
        self.name = name
        self.programs = {program.slug: program for program in programs}
        self.inputs: dict[tuple[str, str], object] = {}
        """Input that steps were given by whoever ran them again."""
        self.executions: dict[tuple[str, str], list[object]] = {}
        self.down = False
        self.generation = 0
        """Rises when the process dies: what it was working on is never answered."""
        self.empty_answers: dict[str, int] = {}
        """Runs whose next calls are answered with no operations, so many times."""
        self.post: Post | None = None
        self.fetch_steps: Callable[[str], dict[str, object]] | None = None
        """Gives the recorded steps of a run, as the server's API does when they are too large for a call."""
        self.send_event: SendEvent | None = None
        self._clock = clock
        self._trace = trace

    async def handle(self, call: Call) -> CallAnswer:
        """Answer a call, as long as that takes."""
        query = parse_qs(urlsplit(call.url).query)
        program, target = self.programs[query["fnId"][0]], query["stepId"][0]
        body = json.loads(call.body)
        run = body["ctx"]["run_id"]
        if self.empty_answers.get(run, 0) > 0:
            self.empty_answers[run] -= 1
            return self._answer(program, 206, [])
        memos = dict(body["steps"])
        if body["use_api"]:
            assert self.fetch_steps is not None
            memos = self.fetch_steps(run)
        inputs = {step: memo["input"] for step, memo in memos.items() if _is_input(memo)}
        for step, given in inputs.items():
            self.inputs[run, step] = given
            del memos[step]
        attempt = body["ctx"]["attempt"]
        found = walk(program.nodes, memos, attempt)
        if target != "step":
            return await self._targeted(program, run, target, found, attempt)
        if program.checkpoints and attempt == 0 and not body["ctx"]["disable_immediate_execution"]:
            return await self._checkpointed(program, body["ctx"], memos)
        return await self._discovered(
            program, run, found, attempt, body["ctx"]["disable_immediate_execution"]
        )

    async def _targeted(
        self, program: Program, run: str, target: str, found: Walk, attempt: int
    ) -> CallAnswer:
        node = program.steps.get(target)
        if found.error is not None:
            return self._thrown(program, found.error, final=found.final)
        if node is None or not isinstance(node, Step) or node not in [each for each, _ in found.frontier]:
            return self._thrown(program, {"name": "Error", "message": f"could not find step {target}"})
        return await self._executed(program, run, node, attempt, [])

    async def _discovered(
        self, program: Program, run: str, found: Walk, attempt: int, disabled: bool
    ) -> CallAnswer:
        if found.error is not None:
            return self._thrown(program, found.error, final=found.final)
        if not found.frontier:
            return self._answer(program, 200, found.output)
        if len(found.frontier) == 1 and not disabled and isinstance(found.frontier[0][0], Step):
            return await self._executed(program, run, found.frontier[0][0], attempt, [])
        return self._answer(program, 206, [self._reported(node, race) for node, race in found.frontier])

    async def _checkpointed(
        self, program: Program, ctx: dict[str, object], memos: dict[str, object]
    ) -> CallAnswer:
        run = str(ctx["run_id"])
        unposted: list[dict[str, object]] = []
        while True:
            found = walk(program.nodes, memos, 0)
            if found.error is not None:
                if unposted:
                    return self._answer(program, 206, unposted)
                return self._thrown(program, found.error, final=found.final)
            if not found.frontier:
                end = {"op": "RunComplete", "id": "complete", "data": found.output}
                return self._answer(program, 206, [*unposted, end])
            node = found.frontier[0][0]
            if len(found.frontier) > 1 or not isinstance(node, Step):
                return self._answer(
                    program, 206, [*unposted, *(self._reported(each, race) for each, race in found.frontier)]
                )
            if node.fails > 0:
                return await self._executed(program, run, node, 0, unposted)
            op = await self._run_code(run, node)
            memos[hashed(node)] = {"data": op["data"]}
            unposted.append(op)
            try:
                if await self._posted(ctx, unposted):
                    unposted = []
            except StaleCall:
                return self._thrown(program, {"name": "Error", "message": "interrupted"})

    async def _posted(self, ctx: dict[str, object], ops: list[dict[str, object]]) -> bool:
        assert self.post is not None
        for attempt in range(POST_TRIES):
            status = await self.post(
                str(ctx["run_id"]), str(ctx["qi_id"]), int(str(ctx["generation_id"])), list(ops)
            )
            if status == 200:
                return True
            if status == 409:
                raise StaleCall
            if status and status < 500:
                return False
            await asyncio.sleep(0.1 * 2**attempt)
        return False

    async def _executed(
        self, program: Program, run: str, node: Step, attempt: int, before: list[dict[str, object]]
    ) -> CallAnswer:
        """Run the code of a step, and answer with how it went."""
        await asyncio.sleep(node.work_ms / 1000)
        if attempt >= node.fails:
            return self._answer(program, 206, [*before, await self._run_code(run, node)])
        error = {"name": "Error", "message": f"{node.id} failed in attempt {attempt}"}
        self._trace.note(f"app: {node.id} throws in attempt {attempt}", run)
        if node.throws == "function" and not before:
            return self._thrown(program, error, node.final, node.retry_after)
        op = "StepFailed" if node.final else "StepError"
        headers = {"x-inngest-no-retry": "true" if node.final else "false"}
        if node.retry_after is not None:
            headers["retry-after"] = str(node.retry_after)
        failed = {"op": op, "id": hashed(node), "name": node.id, "error": error}
        return self._answer(program, 206, [*before, failed], headers)

    async def _run_code(self, run: str, node: Step) -> dict[str, object]:
        results = self.executions.setdefault((run, hashed(node)), [])
        value: dict[str, object] = {"step": node.id, "execution": len(results)}
        if (run, hashed(node)) in self.inputs:
            value["input"] = self.inputs[run, hashed(node)]
        results.append(value)
        self._trace.note(f"app: the code of {node.id} runs, for the {len(results)}. time", run)
        if node.sends and self.send_event is not None:
            event: dict[str, object] = {"name": node.sends, "data": {"k": node.id[-1], "n": len(results)}}
            await self.send_event(event, f"{run}.{node.id}")
        return {"op": "StepRun", "id": hashed(node), "name": node.id, "displayName": node.id, "data": value}

    def _reported(self, node: Awaited, race: bool) -> dict[str, object]:
        now = self._clock.now()
        op: dict[str, object] = {"id": hashed(node), "displayName": node.id, "name": node.id}
        opts: dict[str, object] = {"parallelMode": "race"} if race else {}

        def when(ms: int, absolute: bool) -> str:
            return format_time(now + ms) if absolute else format_duration(ms)

        if isinstance(node, Step):
            op["op"] = "StepPlanned"
        elif isinstance(node, Sleep):
            op |= {"op": "Sleep", "name": when(node.ms, node.absolute)}
        elif isinstance(node, Wait):
            op |= {"op": "WaitForEvent", "name": node.event}
            opts |= {"timeout": format_duration(node.timeout_ms), "if": node.condition or None}
            if node.lookback_ms:
                opts["lookback"] = format_duration(node.lookback_ms)
        elif isinstance(node, Invoke):
            op["op"] = "InvokeFunction"
            timeout = None if node.timeout_ms is None else format_duration(node.timeout_ms)
            opts |= {
                "function_id": node.function,
                "payload": {"data": {"k": node.id, "n": 1}},
                "timeout": timeout,
            }
        elif isinstance(node, Signal):
            op |= {"op": "WaitForSignal", "name": node.signal}
            conflict = "replace" if node.replace else "fail"
            timeout = when(node.timeout_ms, node.absolute)
            opts |= {"signal": node.signal, "timeout": timeout, "conflict": conflict}
        else:
            op["op"] = "Gateway"
            opts |= {"url": f"http://{node.host}.world/", "method": "GET", "headers": {}, "body": ""}
        return op | ({"opts": opts} if opts else {})

    def _thrown(
        self, program: Program, error: dict[str, str], final: bool = False, retry_after: int | None = None
    ) -> CallAnswer:
        headers = {"x-inngest-no-retry": "true" if final else "false"}
        if retry_after is not None:
            headers["retry-after"] = str(retry_after)
        return self._answer(program, 500, error, headers)

    def _answer(
        self, program: Program, status: int, body: object, headers: dict[str, str] | None = None
    ) -> CallAnswer:
        own = {"x-inngest-sdk": "inngest-js:v4.24.0", "content-type": "application/json"}
        if status == 206:
            own["x-inngest-req-version"] = str(program.version)
        return CallAnswer(status, own | (headers or {}), json.dumps(body).encode())


__all__ = ["App", "Fetch", "walk"]
