// Apps on the current major of the npm SDK of one function each, whose rule is wrong: the twin of ../apps/refused.py.

import { Inngest } from "inngest";
import { serve } from "inngest/node";
import { argument, isDev, quiet, serveApps } from "./serving.mjs";

const broken = "event.data.shop id";
const batch = (more = {}) => ({ maxSize: 10, timeout: "1m", ...more });
const event = "refused/event";

const CASES = {
  "concurrency-negative": { concurrency: -1 },
  "concurrency-huge": { concurrency: 2 ** 31 },
  "concurrency-three": { concurrency: [{ limit: 3 }, { limit: 2 }, { limit: 1 }] },
  "concurrency-scope-without-key": { concurrency: { limit: 1, scope: "account" } },
  "concurrency-scope": { concurrency: { limit: 1, scope: "galaxy", key: "1" } },
  "concurrency-key": { concurrency: [{ limit: 9 }, { limit: 1, key: broken }] },
  "throttle-period": { throttle: { limit: 1, period: "500ms" } },
  "throttle-limit": { throttle: { limit: -1, period: "1h" } },
  "throttle-burst": { throttle: { limit: 1, period: "1h", burst: -1 } },
  "throttle-key": { throttle: { limit: 1, period: "1h", key: broken } },
  "rate-limit-zero": { rateLimit: { limit: 0, period: "1h" } },
  "rate-limit-short": { rateLimit: { limit: 1, period: "999ms" } },
  "rate-limit-long": { rateLimit: { limit: 1, period: "24h1s" } },
  "rate-limit-key": { rateLimit: { limit: 1, period: "1h", key: broken } },
  "idempotency": { idempotency: broken },
  "debounce-short": { debounce: { period: "999ms" } },
  "debounce-long": { debounce: { period: "169h" } },
  "debounce-timeout": { debounce: { period: "1h", timeout: "1ms" } },
  "debounce-key": { debounce: { period: "1h", key: broken } },
  "priority": { priority: { run: "event.data.vip ?" } },
  "batch-size": { batchEvents: batch({ maxSize: 1 }) },
  "batch-timeout": { batchEvents: batch({ timeout: "10ms" }) },
  "batch-key": { batchEvents: batch({ key: broken }) },
  "batch-if": { batchEvents: batch({ if: "event.data.bulk ==" }) },
  "batch-with-cancel": { batchEvents: batch(), cancelOn: [{ event: "refused/stop" }] },
  "batch-with-debounce": { batchEvents: batch(), debounce: { period: "1h" } },
  "batch-with-singleton": { batchEvents: batch(), singleton: { mode: "skip" } },
  "batch-with-priority": { batchEvents: batch(), priority: { run: "1" } },
  "singleton-key": { singleton: { key: broken, mode: "skip" } },
  "singleton-mode": { singleton: { mode: "queue" } },
  "timeouts-start": { timeouts: { start: "soon" } },
  "timeouts-finish": { timeouts: { finish: "-1s" } },
  "cancel-if": { cancelOn: [{ event: "refused/stop", if: "event.data.id == async.data." }] },
  "cancel-six": { cancelOn: [1, 2, 3, 4, 5, 6].map((n) => ({ event: `refused/stop-${n}` })) },
  "cron": { triggers: [{ cron: "61 * * * *" }] },
  "cron-never": { triggers: [{ cron: "0 0 31 2 *" }] },
  "cron-zone": { triggers: [{ cron: "TZ=Europe/Atlantis 0 9 * * *" }] },
  "cron-jitter": { triggers: [{ cron: "0 9 * * *", jitter: "10m" }] },
  "cron-twice": { triggers: [{ cron: "0 9 * * *", jitter: "1s" }, { cron: "0 9 * * *", jitter: "2s" }] },
  "trigger-expression": { triggers: [{ event, if: "event.data.n >" }] },
  "two-mistakes": { rateLimit: { limit: 0, period: "1h" }, throttle: { limit: 1, period: "1h", key: broken } },
};

const mounts = Object.entries(CASES).map(([name, options]) => {
  const client = new Inngest({
    id: `refused-js-${name}`, baseUrl: argument("server"), isDev, logger: quiet, internalLogger: quiet,
  });
  const wrong = client.createFunction({ id: "wrong", retries: 0, triggers: [{ event }], ...options }, async () => {});
  const servePath = `/refused/${name}/api/inngest`;
  return [servePath, serve({ client, functions: [wrong], servePath })];
});

serveApps(Object.fromEntries(mounts));
