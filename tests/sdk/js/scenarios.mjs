// The scenarios on the npm SDK, for both majors: the twin of ../apps/functions_async.py, and what only JS has.
// `define(id, options, handler)` hides how the majors spell `createFunction`.

import { setTimeout as nap } from "node:timers/promises";
import { note } from "./call_log.mjs";

const MIB = 1024 * 1024;

/** A `step.run` that notes each time its body runs. */
const step = (ctx, name, work) =>
  ctx.step.run(name, async () => {
    note(ctx, name, "");
    return work();
  });

const boom = (text) => {
  throw new TypeError(text);
};

/** The functions of one app. Each is triggered by the event `<app>/<function>` unless it says otherwise. */
export const scenarios = ({ app, sdk, define, parallel }) => [
  ...simple({ define }),
  ...failing({ define, sdk }),
  ...waiting({ define, app }),
  ...calling({ define, app, sdk }),
  ...inParallel({ define, app, parallel }),
  ...checkpointed({ define }),
  ...triggered({ define, app }),
];

const simple = ({ define }) => [
  define("no-steps", {}, async (ctx) => {
    note(ctx, "body", "no-steps");
    return { hello: ctx.event.data.key };
  }),
  define("returns", {}, async ({ event }) => event.data.value),
  define("returns-nothing", {}, async () => {}),
  define("through-a-step", {}, async (ctx) => {
    const value = await step(ctx, "echo", () => ctx.event.data.value);
    return { value: await step(ctx, "again", () => value) };
  }),
  define("three-steps", {}, async (ctx) => {
    const a = await step(ctx, "a", () => 1);
    const b = await step(ctx, "b", () => a + 1);
    const c = await step(ctx, "c", () => b + 1);
    return [a, b, c];
  }),
  define("step-with-input", {}, async (ctx) => {
    const one = await step(ctx, "one", () => 1);
    const double = async (number) => {
      note(ctx, "two", "", { given: number });
      return number * 2;
    };
    const two = await ctx.step.run("two", double, 10);
    const three = await step(ctx, "three", () => [one, two]);
    return step(ctx, "four", () => [...three, "end"]);
  }),
  define("serialised", {}, async (ctx) => {
    const nothing = await step(ctx, "nothing", () => undefined);
    const date = await step(ctx, "date", () => new Date(0));
    const object = await step(ctx, "object", () => ({ kept: null, dropped: undefined, list: [undefined, 1] }));
    return { nothing: nothing ?? null, date, object };
  }),
  define("loop", {}, async (ctx) => {
    const got = [];
    for (let i = 0; i < 3; i++) got.push(await step(ctx, "again", () => i * 10));
    return got;
  }),
  define("large-state", {}, async (ctx) => {
    const sizes = [];
    for (let i = 0; i < 5; i++) {
      const text = await step(ctx, `big-${i}`, () => String(i).repeat(MIB));
      sizes.push([text.length, text[0]]);
    }
    return sizes;
  }),
];

const failing = ({ define, sdk }) => {
  const onFailure = async (ctx) => {
    note(ctx, "failure", "function-error", {
      event: { name: ctx.event.name, data: ctx.event.data }, error: { name: ctx.error?.name, message: ctx.error?.message },
    });
    return step(ctx, "clean-up", () => "cleaned");
  };
  const functionError = async (ctx) => {
    note(ctx, "body", "function-error");
    boom("the function fails");
  };
  return [
    define("flaky", { retries: 3 }, async (ctx) => {
      const first = await step(ctx, "flaky", () => (ctx.attempt < 2 ? boom(`boom ${ctx.attempt}`) : `ok@${ctx.attempt}`));
      return [first, await step(ctx, "after", () => `after@${ctx.attempt}`)];
    }),
    define("caught", { retries: 1 }, async (ctx) => {
      try {
        await step(ctx, "broken", () => boom("always"));
      } catch (err) {
        return step(ctx, "compensate", () => [err.name, err.message, Boolean(err.stack)]);
      }
      return "not reached";
    }),
    define("uncaught", { retries: 1 }, async (ctx) => {
      await step(ctx, "broken", () => boom("always"));
    }),
    define("function-error", { retries: 1, onFailure }, functionError),
    define("default-retries", {}, functionError, "server"),
    define("non-retriable", { retries: 3 }, async (ctx) => {
      note(ctx, "body", "non-retriable");
      throw new sdk.NonRetriableError("give up");
    }),
    define("non-retriable-step", { retries: 3 }, async (ctx) => {
      await step(ctx, "broken", () => {
        throw new sdk.NonRetriableError("give up here");
      });
    }),
    define("retry-after", { retries: 2 }, async (ctx) => {
      note(ctx, "body", "retry-after");
      if (ctx.attempt === 0) throw new sdk.RetryAfterError("later", new Date(Date.now() + 2000));
      return ctx.attempt;
    }),
    define("retry-after-step", { retries: 2 }, async (ctx) =>
      step(ctx, "later", () => {
        if (ctx.attempt === 0) throw new sdk.RetryAfterError("later", ctx.event.data.wait ?? new Date(Date.now() + 2000));
        return ctx.attempt;
      })),
  ];
};

const waiting = ({ define, app }) => {
  const answer = (ctx, how) => ctx.step.waitForEvent("answer", { event: `${app}/answer`, ...how });
  return [
    define("sleep", {}, async (ctx) => {
      await step(ctx, "before", () => 1);
      await ctx.step.sleep("nap", `${ctx.event.data.seconds ?? 1}s`);
      await step(ctx, "after", () => 2);
      return "rested";
    }),
    define("sleep-until", {}, async (ctx) => {
      await ctx.step.sleepUntil("until", new Date(ctx.event.data.until * 1000));
      await step(ctx, "after", () => 2);
      return "rested";
    }),
    define("wait", {}, async (ctx) =>
      answer(ctx, { timeout: `${ctx.event.data.timeout ?? 20}s`, if: "event.data.key == async.data.key" })),
    define("wait-match", {}, async (ctx) => answer(ctx, { timeout: "20s", match: "data.key" })),
    define("wait-later", {}, async (ctx) => {
      await step(ctx, "slow", () => nap(500));
      return answer(ctx, { timeout: "1s", if: "event.data.key == async.data.key" });
    }),
    define("slow-step", {}, async (ctx) => {
      await step(ctx, "slow", () => nap((ctx.event.data.seconds ?? 1) * 1000));
      await step(ctx, "never", () => 1);
    }),
    define("slow-retried", { retries: 2 }, async (ctx) => {
      const first = await step(ctx, "kept", () => "kept");
      await step(ctx, "slow", () => nap(ctx.attempt === 0 ? ctx.event.data.seconds * 1000 : 0));
      return first;
    }),
    define("signal", {}, async (ctx) =>
      ctx.step.waitForSignal("signal", {
        signal: ctx.event.data.signal, timeout: `${ctx.event.data.timeout ?? 20}s`, onConflict: ctx.event.data.conflict ?? "fail",
      })),
    define("send-signal", {}, async (ctx) =>
      ctx.step.sendSignal("send", { signal: ctx.event.data.signal, data: { n: ctx.event.data.n } })),
  ];
};

const calling = ({ define, app, sdk }) => {
  const byId = (appId, functionId) => sdk.referenceFunction({ appId, functionId });
  const failure = (err) => ({ name: err.name, message: err.message });
  return [
    define("callee", {}, async (ctx) => {
      note(ctx, "body", "callee", { event_name: ctx.event.name });
      return { doubled: ctx.event.data.n * 2 };
    }),
    define("failing-callee", {}, async (ctx) => {
      note(ctx, "body", "failing-callee");
      boom("callee fails");
    }),
    define("slow-callee", {}, async (ctx) => ctx.step.sleep("long", "6s")),
    define("invoke", {}, async (ctx) => {
      const data = { key: ctx.event.data.key, n: 21 };
      return [await ctx.step.invoke("call", { function: byId(app, "callee"), data }), "end"];
    }),
    define("invoke-by-id", {}, async (ctx) => {
      const { key, app: appId, function: functionId } = ctx.event.data;
      try {
        return await ctx.step.invoke("call", { function: byId(appId, functionId), data: { key, n: 4 } });
      } catch (err) {
        return failure(err);
      }
    }),
    define("invoke-timeout", {}, async (ctx) => {
      const data = { key: ctx.event.data.key };
      try {
        await ctx.step.invoke("call", { function: byId(app, "slow-callee"), data, timeout: "1s" });
      } catch (err) {
        return failure(err);
      }
      return "not reached";
    }),
    define("send-event", {}, async (ctx) => {
      const key = ctx.event.data.key;
      const sent = await ctx.step.sendEvent("send", [1, 2].map((n) => ({ name: `${app}/received`, data: { key, n } })));
      return sent.ids;
    }),
    define("received", {}, async (ctx) => {
      note(ctx, "body", "received", { n: ctx.event.data.n, id: ctx.event.id });
    }),
    define("fetch", {}, async (ctx) => {
      try {
        const answer = await ctx.step.fetch(ctx.event.data.url, { method: "POST", body: "ping", headers: { "x-test": "yes" } });
        return { status: answer.status, body: await answer.text(), kind: answer.headers.get("content-type") };
      } catch (err) {
        return failure(err);
      }
    }),
    define("infer", { retries: 1 }, async (ctx) => {
      const model = ctx.step.ai.models.openai({ model: "small", apiKey: "sk-test", baseUrl: ctx.event.data.url });
      try {
        return await ctx.step.ai.infer("model", { model, body: { messages: [{ role: "user", content: "hi" }], temperature: 0.1 } });
      } catch (err) {
        return failure(err);
      }
    }),
  ];
};

const inParallel = ({ define, app, parallel }) => {
  const three = (ctx) =>
    Promise.all([
      step(ctx, "p1", () => nap(50, 1)), step(ctx, "p2", () => nap(150, 2)), step(ctx, "p3", () => nap(250, 3)),
    ]);
  const branches = async (ctx) => {
    const fast = async () => {
      await step(ctx, "a1", () => 1);
      await step(ctx, "a2", () => 1);
    };
    const slow = async () => {
      await step(ctx, "b1", () => nap(600, 1));
      await step(ctx, "b2", () => nap(600, 1));
    };
    await Promise.all([fast(), slow()]);
  };
  const race = (ctx, work) => parallel(ctx, work);
  return [
    define("parallel", {}, three),
    define("parallel-race", {}, async (ctx) => race(ctx, () => three(ctx))),
    define("first-wins", {}, async (ctx) =>
      race(ctx, () => Promise.race([step(ctx, "fast", () => nap(50, "fast")), step(ctx, "slow", () => nap(1500, "slow"))]))),
    define("ordering", {}, async (ctx) => {
      await branches(ctx);
      note(ctx, "end", "ordering");
    }),
    define("ordering-race", {}, async (ctx) => {
      await race(ctx, () => branches(ctx));
      note(ctx, "end", "ordering");
    }),
    define("parallel-mixed", {}, async (ctx) => {
      const got = await Promise.all([
        step(ctx, "run", () => "ran"),
        ctx.step.sleep("nap", "1s"),
        ctx.step.waitForEvent("answer", { event: `${app}/answer`, if: "event.data.key == async.data.key", timeout: "20s" }),
      ]);
      await step(ctx, "last", () => "last");
      return [got[0], got[1] ?? null, got[2] === null ? null : got[2].data.n];
    }),
    define(
      "parallel-failing",
      { onFailure: async (ctx) => note(ctx, "failure", "parallel-failing") },
      async (ctx) => Promise.all(["f1", "f2", "f3"].map((id) => step(ctx, id, () => boom("branch")))),
    ),
    define("resume", {}, async (ctx) => {
      await step(ctx, "before", () => 0);
      await Promise.all([step(ctx, "p1", () => 1), step(ctx, "p2", () => 2)]);
      for (const id of ["t1", "t2", "t3"]) await step(ctx, id, () => id);
      return "resumed";
    }),
  ];
};

const checkpointed = ({ define }) => {
  const fourSteps = async (ctx) => {
    for (const id of ["a", "b", "c", "d"]) {
      const seconds = ctx.event.data[id] ?? 0;
      await step(ctx, id, () => nap(seconds * 1000, id));
    }
    return "four";
  };
  return [
    define("four-steps", { retries: 2 }, fourSteps),
    define("buffered", { checkpointing: { bufferedSteps: 3 } }, fourSteps),
    define("max-runtime", { checkpointing: { maxRuntime: "1s" } }, fourSteps),
    define("max-runtime-no-steps", { checkpointing: { maxRuntime: "1s" } }, async (ctx) => {
      note(ctx, "body", "max-runtime-no-steps");
      await nap(1500);
      return "slept inside";
    }),
  ];
};

const triggered = ({ define, app }) => {
  const ended = `event.data.function_id == '${app}-no-steps' || event.data.function_id == '${app}-function-error'`;
  const noting = (id, triggers) =>
    define(id, { triggers }, async (ctx) => {
      note(ctx, "body", id, { event: { name: ctx.event.name, data: ctx.event.data } });
    });
  return [
    noting("wildcard", [{ event: `${app}/wild/*` }]),
    noting("wildcard-dot", [{ event: `${app}/user.*` }]),
    noting("expression", [{ event: `${app}/priced`, if: "event.data.total > 10" }]),
    noting("two-triggers", [{ event: `${app}/two/x` }, { event: `${app}/two/*` }]),
    noting("on-finished", [{ event: "inngest/function.finished", if: ended }]),
    noting("on-failed", [{ event: "inngest/function.failed", if: ended }]),
  ];
};
