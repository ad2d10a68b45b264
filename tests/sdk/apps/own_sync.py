"""The scenarios as plain functions of Perdure's own SDK, the twin of `own_async.py`."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import own_telling
from call_log import CallLog
from own_types import SAMPLE, Parcel, model_of, same

import perdure

Handler = Callable[[dict[str, Any], perdure.SyncStep], Any]
MIB = 1024 * 1024


def nap(seconds: float, result: object) -> object:
    """`result`, a while later."""
    time.sleep(seconds)
    return result


class Scenarios:
    """Makes the functions of one app. Each is triggered by the event `<app>/<function>` unless it says otherwise."""

    def __init__(self, app: perdure.App, log: CallLog) -> None:
        self.app = app
        self.log = log
        self._simple()
        self._failing()
        self._waiting()
        self._calling()
        self._parallel()
        self._triggers()
        self._typed()
        own_telling.define_sync(app, log)

    def define(
        self,
        fn_id: str,
        handler: Handler,
        *,
        retries: int | None = 0,
        on_failure: Handler | None = None,
        triggers: list[perdure.EventType[dict[str, Any]]] | None = None,
        checkpoint: perdure.Checkpoint | None = None,
    ) -> perdure.Function[dict[str, Any], Any]:
        """Declare a function. `triggers` default to the event named after it."""
        on = triggers or [perdure.event(f"{self.app.name}/{fn_id}")]
        made = self.app.function(on, id=fn_id, retries=retries, on_failure=on_failure, checkpoint=checkpoint)
        return made(handler)

    def step(self, step: perdure.SyncStep, name: str, work: Callable[[], Any]) -> Any:
        """A `step.run` that notes each time its body runs."""

        def body() -> Any:
            self.log.note(step, name, "")
            return work()

        return step.run(name, body)

    def _simple(self) -> None:
        def no_steps(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            self.log.note(step, "body", "no-steps")
            return {"hello": event["key"]}

        def returns(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            return event.get("value")

        def through_a_step(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            value = self.step(step, "echo", lambda: event["value"])
            again = self.step(step, "again", lambda: value)
            return {"value": again}

        def three_steps(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            a = self.step(step, "a", lambda: 1)
            b = self.step(step, "b", lambda: a + 1)
            c = self.step(step, "c", lambda: b + 1)
            return [a, b, c]

        def step_with_input(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            def double(number: int) -> int:
                self.log.note(step, "two", "", given=number)
                return number * 2

            one = self.step(step, "one", lambda: 1)
            two = step.run("two", double, 10)
            three = self.step(step, "three", lambda: [one, two])
            return self.step(step, "four", lambda: [*three, "end"])

        def loop(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            return [self.step(step, "again", partial(int, i * 10)) for i in range(3)]

        def large_state(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            sizes = []
            for number in range(5):
                text = self.step(step, f"big-{number}", partial(str.__mul__, str(number), MIB))
                sizes.append([len(text), text[0]])
            return sizes

        def four_steps(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            for name in "abcd":
                self.step(step, name, partial(nap, float(event.get(name, 0)), name))
            return "four"

        self.define("no-steps", no_steps)
        self.define("returns", returns)
        self.define("through-a-step", through_a_step)
        self.define("three-steps", three_steps)
        self.define("step-with-input", step_with_input)
        self.define("loop", loop)
        self.define("large-state", large_state)
        self.define("four-steps", four_steps, retries=10)
        self.define("buffered", four_steps, checkpoint=perdure.Checkpoint(steps=3))
        self.define("max-runtime", four_steps, checkpoint=perdure.Checkpoint(max_runtime=1))

    def _failing(self) -> None:
        def boom(text: str) -> Any:
            raise ValueError(text)

        def flaky(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            attempt = step.attempt
            first = self.step(
                step, "flaky", lambda: boom(f"boom {attempt}") if attempt < 2 else f"ok@{attempt}"
            )
            return [first, self.step(step, "after", lambda: f"after@{step.attempt}")]

        def caught(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            try:
                self.step(step, "broken", lambda: boom("always"))
            except perdure.StepError as err:
                caught_error = [err.name, err.message, err.stack is not None]
                return self.step(step, "compensate", lambda: caught_error)
            return "not reached"

        def uncaught(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            self.step(step, "broken", lambda: boom("always"))

        def function_error(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            self.log.note(step, "body", "function-error")
            raise ValueError("the function fails")

        def on_failure(event: perdure.FailureData, step: perdure.SyncStep) -> Any:
            seen = {"name": step.event.name, "data": step.event.data}
            self.log.note(step, "failure", "function-error", event=seen)
            return self.step(step, "clean-up", lambda: "cleaned")

        def non_retriable(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            self.log.note(step, "body", "non-retriable")
            raise perdure.NonRetriableError("give up")

        def non_retriable_step(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            def give_up() -> Any:
                raise perdure.NonRetriableError("give up here")

            self.step(step, "broken", give_up)

        def retry_after(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            self.log.note(step, "body", "retry-after")
            if step.attempt == 0:
                raise perdure.RetryAfterError("later", datetime.timedelta(seconds=2))
            return step.attempt

        def retry_after_step(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            attempt = step.attempt

            def later() -> Any:
                if attempt == 0:
                    raise perdure.RetryAfterError("later", datetime.timedelta(seconds=2))
                return attempt

            return self.step(step, "later", later)

        self.define("flaky", flaky, retries=3)
        self.define("caught", caught, retries=1)
        self.define("uncaught", uncaught, retries=1)
        self.define("function-error", function_error, retries=1, on_failure=on_failure)
        self.define("default-retries", function_error, retries=None)
        self.define("non-retriable", non_retriable, retries=3)
        self.define("non-retriable-step", non_retriable_step, retries=3)
        self.define("retry-after", retry_after, retries=2)
        self.define("retry-after-step", retry_after_step, retries=2)

    def _waiting(self) -> None:
        answer = perdure.event(f"{self.app.name}/answer")

        def sleep(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            self.step(step, "before", lambda: 1)
            step.sleep("nap", float(event.get("seconds", 1)))
            self.step(step, "after", lambda: 2)
            return "rested"

        def sleep_until(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            until = datetime.datetime.fromtimestamp(float(event["until"]), datetime.UTC)
            step.sleep_until("until", until)
            self.step(step, "after", lambda: 2)
            return "rested"

        def wait(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            seconds = int(event.get("timeout", 20))
            found = step.wait_for_event("answer", answer, match="data.key", timeout=seconds)
            if found is None:
                return None
            return {"name": found.name, "id": found.id, "data": found.data, "ts": found.ts}

        def wait_later(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            self.step(step, "slow", partial(nap, 0.5, None))
            found = step.wait_for_event("answer", answer, match="data.key", timeout=1)
            return None if found is None else found.data

        def looking_back(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            self.step(step, "slow", partial(nap, 0.6, None))
            found = step.wait_for_event("answer", answer, match="data.key", timeout=5, lookback="1m")
            return None if found is None else found.data

        def slow_step(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            self.step(step, "slow", partial(nap, float(event.get("seconds", 1)), None))
            self.step(step, "never", lambda: 1)

        def wait_for_signal(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            found = step.wait_for_signal("signal", event["key"], timeout=10)
            return None if found is None else [found.signal, found.data]

        def send_signal(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            return step.send_signal("wake", event["signal"], {"n": 7})

        self.define("sleep", sleep)
        self.define("sleep-until", sleep_until)
        self.define("wait", wait)
        self.define("wait-later", wait_later)
        self.define("looking-back", looking_back)
        self.define("slow-step", slow_step)
        self.define("wait-for-signal", wait_for_signal)
        self.define("send-signal", send_signal)

    def _calling(self) -> None:
        received_event = perdure.event(f"{self.app.name}/received")

        def callee(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            self.log.note(step, "body", "callee", event_name=step.event.name)
            return {"doubled": event["n"] * 2}

        def failing_callee(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            self.log.note(step, "body", "failing-callee")
            raise ValueError("callee fails")

        def slow_callee(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            step.sleep("long", 6)

        doubled = self.define("callee", callee)
        self.define("failing-callee", failing_callee)
        slow = self.define("slow-callee", slow_callee)

        def invoke(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            return [step.invoke("call", doubled, {"key": event["key"], "n": 21}), "end"]

        def invoke_by_id(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            """Calls any function of any app; a failure is caught and returned."""
            slug = f"{event['app']}-{event['function']}"
            try:
                return step.invoke("call", slug, {"key": event["key"], "n": 4})
            except perdure.StepError as err:
                return {"name": err.name, "message": err.message}

        def invoke_timeout(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            try:
                step.invoke("call", slow, {"key": event["key"]}, timeout=1)
            except perdure.InvokeTimeoutError as err:
                return {"name": err.name, "message": err.message}
            return "not reached"

        def send_event(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            return step.send_event("send", [received_event({"key": event["key"], "n": n}) for n in (1, 2)])

        def received(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            self.log.note(step, "body", "received", n=event["n"], id=step.event.id)

        def infer(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            body = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.1}
            try:
                return step.ai.infer(
                    "model", url=f"{event['url']}/chat/completions", body=body, auth_key="sk-test"
                )
            except perdure.StepError as err:
                return {"name": err.name, "message": err.message}

        def fetch(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            got = step.fetch("get", event["url"])
            return [got.status_code, got.body]

        self.define("invoke", invoke)
        self.define("invoke-by-id", invoke_by_id)
        self.define("invoke-timeout", invoke_timeout)
        self.define("send-event", send_event)
        self.define("received", received)
        self.define("infer", infer, retries=1)
        self.define("fetch", fetch)

    def _parallel(self) -> None:
        answer = perdure.event(f"{self.app.name}/answer")

        def parallel(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            got = step.parallel(
                lambda: self.step(step, "p1", lambda: nap(0.05, 1)),
                lambda: self.step(step, "p2", lambda: nap(0.15, 2)),
                lambda: self.step(step, "p3", lambda: nap(0.25, 3)),
            )
            return list(got)

        def ordering(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            def fast() -> None:
                self.step(step, "a1", lambda: 1)
                self.step(step, "a2", lambda: 1)

            def slow() -> None:
                self.step(step, "b1", lambda: nap(0.6, 1))
                self.step(step, "b2", lambda: nap(0.6, 1))

            step.parallel(fast, slow)
            self.log.note(step, "end", "ordering")

        def parallel_mixed(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            got = step.parallel(
                lambda: self.step(step, "run", lambda: "ran"),
                lambda: step.sleep("nap", 1),
                lambda: step.wait_for_event("answer", answer, match="data.key", timeout=20),
            )
            self.step(step, "last", lambda: "last")
            return [got[0], got[1], None if got[2] is None else got[2].data["n"]]

        def parallel_failing(event: dict[str, Any], step: perdure.SyncStep) -> Any:
            def boom() -> Any:
                raise ValueError("branch")

            step.parallel(
                lambda: self.step(step, "f1", boom),
                lambda: self.step(step, "f2", boom),
                lambda: self.step(step, "f3", boom),
            )

        def on_failure(event: perdure.FailureData, step: perdure.SyncStep) -> Any:
            self.log.note(step, "failure", "parallel-failing")

        self.define("parallel", parallel)
        self.define("ordering-race", ordering)
        self.define("parallel-mixed", parallel_mixed)
        self.define("parallel-failing", parallel_failing, on_failure=on_failure)

    def _triggers(self) -> None:
        app = self.app.name

        def noting(fn: str) -> Handler:
            def handler(event: dict[str, Any], step: perdure.SyncStep) -> Any:
                self.log.note(step, "body", fn, event={"name": step.event.name, "data": event})

            return handler

        def on(*events: str, expression: str | None = None) -> list[Any]:
            types = [perdure.event(event) for event in events]
            return [one if expression is None else one.when(expression) for one in types]

        ended = (
            f"event.data.function_id == '{app}-no-steps' || event.data.function_id == '{app}-function-error'"
        )
        self.define("wildcard", noting("wildcard"), triggers=on(f"{app}/wild/*"))
        self.define("wildcard-dot", noting("wildcard-dot"), triggers=on(f"{app}/user.*"))
        self.define(
            "expression",
            noting("expression"),
            triggers=on(f"{app}/priced", expression="event.data.total > 10"),
        )
        self.define("two-triggers", noting("two-triggers"), triggers=on(f"{app}/two/x", f"{app}/two/*"))
        self.define(
            "on-finished", noting("on-finished"), triggers=on("inngest/function.finished", expression=ended)
        )
        self.define(
            "on-failed", noting("on-failed"), triggers=on("inngest/function.failed", expression=ended)
        )

    def _typed(self) -> None:
        """Values of many types go through a step, an invoke and back."""
        parcels = perdure.event(f"{self.app.name}/parcel", Parcel)

        @self.app.function(parcels, id="typed-callee", retries=0)
        def weigh(event: Parcel, step: perdure.SyncStep) -> Parcel:
            assert event == SAMPLE, event
            return step.run("same", same, event)

        @self.app.function(perdure.event(f"{self.app.name}/typed"), id="typed", retries=0)
        def typed(event: dict[str, Any], step: perdure.SyncStep) -> dict[str, bool]:
            once = step.run("same", same, SAMPLE)
            model = step.run("model", model_of, once)
            back = step.invoke("call", weigh, once)
            return {"same": once == back == SAMPLE and model == [model_of(SAMPLE)[0]]}
