"""Calls of an app's functions within the process: a `shard.ports.Transport` without HTTP.

A call comes as the bytes that would go over the wire, is read by the SDK's `read_job`, and its function is run by
`run_job`, as for every other way to an app. Its finished steps go to the shard as `Checkpoint` commands, and the
function goes on when they are on disk (`ShardCarrier`).

The functions may run on another event loop than the shard, in another thread: then whatever passes between the two
goes through a `Crossing`. Or on the same loop, which is what tests on a virtual clock want:

    transport = InProcessTransport(elsewhere, now_ns=clock.now_ns)   # elsewhere: for requests to the world
    shard = Shard(store, transport, clock, entropy, settings)
    transport.serve(app)                                             # its functions run on this very loop
    transport.attach(shard)                                          # where finished steps go
    await shard.start()
    await shard.submit(RegisterApp(registration=registration_of(app)))

Everything that a call asks of the world is an argument: `now_ns` is the SDK's clock for calls made here; the shard
has its own. What else an app asks of its server (events, signals, a state too large for a call) goes through
`app.api`; `Api.through` puts something else in the place of HTTP (`perdure.embedded.requests`).

A call has no time limit here: a function that still runs is known to be alive. A task that is cancelled because the
app's loop ends reports nothing, so that its call is made again at the next start, as after a kill.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from urllib.parse import quote, unquote

import msgspec

from perdure.core.cron import check_cron
from perdure.core.expressions import compile_expression
from perdure.embedded.carrier import ShardCarrier
from perdure.embedded.crossing import Crossing, Here, Threaded
from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.protocol.registration import Registration, StepUrl, read_registration
from perdure.sdk import world
from perdure.sdk.app import App
from perdure.sdk.calling import fetch_state, run_job
from perdure.sdk.endpoint import retry_headers
from perdure.sdk.errors import UsageError
from perdure.sdk.exchange import REQUEST_VERSION, SDK
from perdure.sdk.function import Function
from perdure.sdk.job import Job, read_job
from perdure.sdk.reply import Reply, of_failure
from perdure.shard.batch import Batch
from perdure.shard.calls import job_id
from perdure.shard.loop import Shard
from perdure.shard.ports import CallHandle, Transport

log = logging.getLogger("perdure")

ORIGIN = "http://in-process/"
"""Apps of this process are registered below this address, which leads nowhere else."""
FRAMEWORK = "embedded"
JOB_HEADER = "x-inngest-job-id"
CLAIM_S = 10.0
"""A call of an app that is not served here fails after so many seconds: at a start apps come one after the other."""
LINGER_S = 1.0
"""A call whose task was cancelled by somebody else fails, if the loop still runs so long after (seconds)."""

Done = Callable[[CallAnswer | CallFailure], None]
_HEADERS = {
    "x-inngest-sdk": SDK,
    "x-inngest-req-version": REQUEST_VERSION,
    "content-type": "application/json",
}


def registration_body(app: App) -> bytes:
    """What an app registers with, as JSON."""
    url = ORIGIN + quote(app.name, safe="")
    return msgspec.json.encode(
        {
            "url": url,
            "v": "0.1",
            "deployType": "ping",
            "sdk": SDK,
            "framework": FRAMEWORK,
            "appName": app.name,
            "appVersion": app.version or "",
            "functions": [function.config(url) for function in app.functions.values()],
            "headers": {"env": app.settings.env or "", "platform": ""},
        }
    )


def registration_of(app: App) -> Registration:
    """The registration of an app, for `RegisterApp`. Raises `RegistrationError` if its functions are at fault."""
    return read_registration(
        registration_body(app),
        check_expression=lambda text: void(compile_expression(text)),
        check_cron=check_cron,
    )


def void(_: object) -> None:
    """Nothing, whatever it is given."""


class Place(msgspec.Struct, eq=False):
    """Where an app's functions run, and the ways between there and the shard."""

    app: App
    loop: asyncio.AbstractEventLoop
    to_app: Crossing
    to_shard: Crossing
    carrier: ShardCarrier


class InProcessTransport:
    """Runs calls of apps in this process; all other calls go on to `elsewhere`.

    Used on the shard's loop. `now_ns` tells the calls the time, in ns since the epoch.
    """

    def __init__(
        self, elsewhere: Transport, *, now_ns: Callable[[], int] = world.now_ns, takes_logs: bool = False
    ) -> None:
        self._elsewhere = elsewhere
        self._takes_logs = takes_logs
        self._now_ns = now_ns
        self._functions: dict[str, tuple[Place, Function[object, object]]] = {}
        self._apps: set[str] = set()
        self._unclaimed: list[tuple[str, RunningCall]] = []
        self._shard: Shard | None = None
        self.running: set[RunningCall] = set()
        """Calls under way."""
        self._by_job: dict[str, RunningCall] = {}

    def read(self, call: Call, step_id: str, function: Function[object, object]) -> Job:
        """A call as its function gets it. Headers are looked at only for middleware, which may ask for the trace."""
        headers = {} if function.chain is None else {name.lower(): value for name, value in call.headers}
        job = read_job(call.body, step_id, headers)
        job.takes_logs = self._takes_logs
        return job

    def attach(self, shard: Shard) -> None:
        """Say where finished steps go, and whose commits tell of calls that nobody wants any more. Once."""
        self._shard = shard
        shard.on_commit.append(self._committed)

    def _committed(self, batch: Batch) -> None:
        """Stop the calls whose items a batch has taken away: their runs were cancelled, or have ended otherwise."""
        if self._by_job:
            for (run_id, n), row in batch.changes.items.items():
                if row is None and (running := self._by_job.get(job_id(run_id, n))) is not None:
                    running.cancel()

    def shard(self) -> Shard:
        """The shard that this transport belongs to."""
        if self._shard is None:
            raise RuntimeError("InProcessTransport.attach has not been called")
        return self._shard

    def serve(self, app: App, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Run the functions of an app, on `loop` (default: this one). A second time takes in what is new."""
        here = asyncio.get_running_loop()
        loop = loop or here
        to_app: Crossing = Here() if loop is here else Threaded(loop)
        to_shard: Crossing = Here() if loop is here else Threaded(here)
        place = Place(app, loop, to_app, to_shard, ShardCarrier(self.shard, to_shard, to_app))
        url = ORIGIN + quote(app.name, safe="")
        for function in app.functions.values():
            self._functions[StepUrl.prepare(url, function.slug).to("")] = (place, function)
        self._apps.add(url)
        unclaimed, self._unclaimed = self._unclaimed, []
        for prefix, running in unclaimed:
            self._begin(prefix, running)

    def start(self, call: Call, done: Done) -> CallHandle:
        """Start a call; `done` is called once, later, on the shard's loop."""
        if not call.url.startswith(ORIGIN):
            return self._elsewhere.start(call, done)
        prefix, mark, step_id = call.url.rpartition("stepId=")
        running = RunningCall(self, call, unquote(step_id), done)
        self.running.add(running)
        self._by_job[running.job] = running
        self._begin(prefix + mark, running)
        return running

    def _begin(self, prefix: str, running: RunningCall) -> None:
        found = self._functions.get(prefix)
        if found is not None:
            running.place, running.function = place, _ = found
            try:
                place.to_app.put(RunningCall.begin, running)
            except RuntimeError:
                log.warning(
                    "The event loop of %s is closed; its calls are made again at the next start.",
                    place.app.name,
                )
        elif prefix.partition("?")[0] in self._apps:
            asyncio.get_running_loop().call_soon(running.lost)
        elif not running.over:
            self._unclaimed.append((prefix, running))
            asyncio.get_running_loop().call_later(CLAIM_S, self._give_up, running)

    def forget(self, running: RunningCall) -> None:
        """A call is over."""
        self.running.discard(running)
        if self._by_job.get(running.job) is running:
            del self._by_job[running.job]

    def _give_up(self, running: RunningCall) -> None:
        """Nobody has claimed a call in time."""
        if running.place is None:
            self._unclaimed = [(prefix, other) for prefix, other in self._unclaimed if other is not running]
            running.lost()

    def now_ns(self) -> int:
        """The time for calls made here, in ns since the epoch."""
        return self._now_ns()

    def cancel_all(self) -> None:
        """Cancel what still runs, without a word to the shard: it is made again at the next start."""
        for running in list(self.running):
            running.drop()


class RunningCall:
    """A call under way. `begin` and what is below it happen on the app's loop, all else on the shard's."""

    __slots__ = ("_call", "_done", "_step_id", "_task", "_transport", "function", "job", "over", "place")

    def __init__(self, transport: InProcessTransport, call: Call, step_id: str, done: Done) -> None:
        self.place: Place | None = None
        self.function: Function[object, object] | None = None
        self.over = False
        self.job = next((value for name, value in call.headers if name == JOB_HEADER), "")
        self._transport = transport
        self._call = call
        self._step_id = step_id
        self._done = done
        self._task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Give the call up: the function's task is cancelled, `done` gets a failure of code `cancelled`."""
        if not self.over:
            asyncio.get_running_loop().call_soon(
                self._end, CallFailure("cancelled", "The call was given up.")
            )
            self._stop()

    def drop(self) -> None:
        """Cancel the function's task; `done` is never called."""
        self.over = True
        self._transport.forget(self)
        self._stop()

    def lost(self) -> None:
        """No function of this process is meant."""
        self._end(
            CallFailure(
                "http_unreachable",
                f"No app of this process serves {self._call.url.partition('&stepId')[0]}. Its function was renamed or "
                "removed, or the app was not started with run_embedded.",
            )
        )

    def _end(self, result: CallAnswer | CallFailure) -> None:
        if not self.over:
            self.over = True
            self._transport.forget(self)
            self._done(result)

    def _stop(self) -> None:
        if self.place is not None:
            try:
                self.place.to_app.put(RunningCall._cancel_task, self)
            except RuntimeError:
                return  # its loop is closed, and the task with it

    # On the app's loop

    def begin(self) -> None:
        """Start the function's task."""
        if not self.over and self.place is not None:
            self._task = self.place.loop.create_task(self._work(self.place))

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _work(self, place: Place) -> None:
        assert self.function is not None
        try:
            job = self._transport.read(self._call, self._step_id, self.function)
            problem = await fetch_state(place.app, job) if job.from_api else None
            reply = problem or await run_job(
                place.app, self.function, job, place.carrier, now_ns=self._transport.now_ns
            )
        except asyncio.CancelledError:
            place.loop.call_later(LINGER_S, self._report, place, _CUT_SHORT)
            raise
        except UsageError as error:
            reply = of_failure(error, self._transport.now_ns() // 1_000_000)
        except Exception as error:
            log.exception("A call of %s could not be answered", self.function.slug)
            reply = of_failure(error, self._transport.now_ns() // 1_000_000)
        self._report(place, self._answer(reply))

    def _report(self, place: Place, result: CallAnswer | CallFailure) -> None:
        try:
            place.to_shard.put(self._end, result)
        except RuntimeError:
            return  # the engine has ended; the call is made again at its next start

    def _answer(self, reply: Reply) -> CallAnswer | CallFailure:
        if len(reply.body) > self._call.max_answer:
            return CallFailure(
                "output_too_large",
                f"The function answered with {len(reply.body)} bytes; at most {self._call.max_answer} are kept. Store "
                "large results somewhere else and return where they are.",
            )
        more = retry_headers(reply)
        return CallAnswer(
            reply.status, {**_HEADERS, **more} if more else _HEADERS, reply.body, self._call.url
        )


_CUT_SHORT = CallFailure("http_unreachable", "The task that ran the function was cancelled from outside.")
