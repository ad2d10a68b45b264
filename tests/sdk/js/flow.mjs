// Functions under each rule of flow control, on the current major of the npm SDK: the twin of ../apps/functions_flow.py.

import { setTimeout as nap } from "node:timers/promises";
import { note } from "./call_log.mjs";

/** Note the beginning, take `seconds` of the event's data, note the end. */
const work = async (ctx, part, usual = 0.3) => {
  const { n, user, seconds } = ctx.event.data;
  const about = {
    part, n: n ?? null, user: user ?? null,
    events: ctx.events.map((event) => event.data.n ?? null),
    sizes: ctx.events.map((event) => (event.data.fill ?? "").length),
  };
  note(ctx, "begin", "", about);
  await nap((seconds ?? usual) * 1000);
  note(ctx, "end", "", about);
  return { n: about.n, events: about.events };
};

const whole = (ctx) => work(ctx, "whole");
const quick = (ctx) => work(ctx, "whole", 0);

const stepped = async (ctx) => {
  await ctx.step.run("first", () => work(ctx, "first", 0.15));
  if ("sleep" in ctx.event.data) await ctx.step.sleep("nap", ctx.event.data.sleep * 1000);
  return ctx.step.run("second", () => work(ctx, "second", 0.15));
};

const failsFirst = async (ctx) => {
  if (ctx.attempt === 0 && ctx.event.data.fails) {
    note(ctx, "failed", "");
    throw new Error("the first attempt fails");
  }
  return work(ctx, "whole");
};

const failsFirstInAStep = async (ctx) => {
  await ctx.step.run("flaky", () => {
    note(ctx, "flaky", "");
    if (ctx.attempt === 0) throw new Error("the first attempt fails");
    return 1;
  });
  return ctx.step.run("after", () => work(ctx, "after", 0.15));
};

const onFailure = async (ctx) => note(ctx, "failure", "");

const user = "event.data.user";

/** The functions of one app. Each is triggered by the event `<app>/<function>`. */
export const flowFunctions = ({ app, define, sdk }) => [
  define("one", { concurrency: 1 }, stepped),
  define("one-whole", { concurrency: 1 }, whole),
  define("per-user", { concurrency: { limit: 1, key: user } }, whole),
  define("two-limits", { concurrency: [{ limit: 2 }, { limit: 1, key: user }] }, whole),
  define("in-turns", { concurrency: [{ limit: 1 }, { limit: 1, key: user }] }, whole),
  define("shared", { concurrency: [{ limit: 1, scope: "account", key: '"one for all"' }] }, whole),
  define("env-first", { concurrency: [{ limit: 1, scope: "env", key: user }] }, whole),
  define("env-second", { concurrency: [{ limit: 1, scope: "env", key: user }] }, whole),
  define("unlimited", { concurrency: { limit: 0 } }, whole),
  define("one-flaky", { concurrency: 1, retries: 1 }, failsFirst),
  define("one-run", {}, stepped),

  define("paced", { throttle: { limit: 2, period: "2s" } }, quick),
  define("paced-burst", { throttle: { limit: 1, period: "1s", burst: 1 } }, quick),
  define("paced-users", { throttle: { limit: 1, period: "2s", key: user } }, quick),
  define("paced-steps", { throttle: { limit: 1, period: "10s" }, retries: 1 }, failsFirstInAStep),

  define("ten", { rateLimit: { limit: 10, period: "3s" } }, quick),
  define("any-window", { rateLimit: { limit: 2, period: "2s" } }, quick),
  define("rate-users", { rateLimit: { limit: 1, period: "1m", key: "event.data.vip == true ? false : event.data.user" } }, quick),
  define("rate-two", { rateLimit: { limit: 2, period: "1m", key: user } }, quick),
  define("rate-again", { rateLimit: { limit: 1, period: "1s" } }, quick),
  define("idempotent", { idempotency: "event.data.cart" }, quick),

  define("debounced", { debounce: { period: "1s", key: user } }, quick),
  define("debounced-capped", { debounce: { period: "1s", timeout: "2s", key: user } }, quick),
  define("batched", { batchEvents: { maxSize: 3, timeout: "2s", key: "event.data.group" } }, quick),
  define("batched-some", {
    batchEvents: { maxSize: 3, timeout: "1s", key: "event.data.group", if: "event.data.bulk == true" },
  }, quick),
  define("batched-large", { batchEvents: { maxSize: 100, timeout: "60s" } }, quick),
  define("rated-debounced", {
    debounce: { period: "1s", key: user }, rateLimit: { limit: 2, period: "1m", key: user },
  }, quick),

  define("ranked", { concurrency: 1, priority: { run: "event.data.rank" } }, whole),
  define("single-skip", {
    singleton: { key: "event.data.many == true ? false : event.data.user", mode: "skip" },
  }, stepped),
  define("single-cancel", { singleton: { key: user, mode: "cancel" }, onFailure }, stepped),

  define("start-by", { concurrency: 1, timeouts: { start: "1s" }, onFailure }, whole),
  define("start-paced", { throttle: { limit: 2, period: "3s" }, timeouts: { start: "2s" } }, quick),
  define("finish-by", { timeouts: { finish: "1s" }, onFailure }, stepped),
  define("finish-busy", { timeouts: { finish: "1s" }, onFailure }, whole),

  ...cancellable({ app, define }),

  ...["pausable", "bulk", "adjusted"].map((fnId) => define(fnId, {}, stepped)),
  define("scheduled", {
    triggers: [{ cron: "TZ=Europe/Paris 0 9 * * 1-5", jitter: "30s" }, { cron: "*/10 3 1 1 *" }],
  }, quick),

  ...called({ app, define, sdk }),
];

const cancellable = ({ app, define }) => {
  const on = (event, more = {}) => ({ event: `${app}/${event}`, ...more });
  const same = "event.data.key == async.data.key";
  return [
    define("cancel-any", { cancelOn: [on("stop-any")] }, stepped),
    define("cancel-if", { cancelOn: [on("stop-if", { if: `${same} && async.data.sure == true` })], onFailure }, stepped),
    define("cancel-match", {
      cancelOn: [on("stop-a", { match: "data.key" }), on("stop-b", { match: "data.key" })],
    }, stepped),
    define("cancel-soon", { cancelOn: [on("stop-soon", { match: "data.key", timeout: "1s" })] }, stepped),
    define("cancel-queued", {
      cancelOn: [on("stop-queued", { if: `${same} && event.data.n == async.data.n` })], concurrency: 1,
    }, whole),
    define("on-cancelled", {
      triggers: [{ event: "inngest/function.cancelled", if: `event.data.function_id.startsWith('${app}-')` }],
    }, async (ctx) => note(ctx, "cancelled", ctx.event.data.function_id, { of: ctx.event.data.run_id })),
  ];
};

const called = ({ app, define, sdk }) => [
  define("call", {}, async (ctx) => {
    try {
      return await ctx.step.invoke("call", {
        function: sdk.referenceFunction({ appId: app, functionId: ctx.event.data.function }), data: ctx.event.data,
      });
    } catch (error) {
      note(ctx, "error", "", { name: error.name, message: error.message });
      return { name: error.name, message: error.message };
    }
  }),
  define("called-limited", { rateLimit: { limit: 1, period: "1m", key: user } }, quick),
  define("called-debounced", { debounce: { period: "1s", key: user } }, quick),
  define("called-batched", { batchEvents: { maxSize: 2, timeout: "1s", key: user } }, quick),
  define("called-skipped", { singleton: { key: user, mode: "skip" } }, stepped),
  define("called-cancelled", { singleton: { key: user, mode: "cancel" } }, stepped),
];

/** An app of its own, since it starts a run every second: its notes have the key `every-second`. */
export const everySecond = ({ define }) => [
  define("every-second", { triggers: [{ cron: "* * * * * *" }] }, async (ctx) => {
    const { name, data, ts } = ctx.event;
    note(ctx, "tick", "", { key: "every-second", event: name, data, ts: ts ?? null });
  }),
];
