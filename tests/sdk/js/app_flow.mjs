// Apps on the current major of the npm SDK whose functions are under rules of flow control, in one process:
//   /api/inngest                  app `flow-js`, with checkpointing as the SDK has it by default (on)
//   /cron/api/inngest             app `flow-js-cron`
//   /refused/<case>/api/inngest   apps of one function each, whose rule is wrong (refused.mjs)

import * as sdk from "inngest";
import { serve } from "inngest/node";
import { recordingFetch } from "./call_log.mjs";
import { everySecond, flowFunctions } from "./flow.mjs";
import { CASES, refused } from "./refused.mjs";
import { argument, isDev, quiet, recording, serveApps } from "./serving.mjs";

const makeClient = (id) =>
  new sdk.Inngest({ id, baseUrl: argument("server"), isDev, logger: quiet, internalLogger: quiet, fetch: recordingFetch });

const app = (id, functions) => {
  const client = makeClient(id);
  const define = (fnId, options, handler) =>
    client.createFunction({ id: fnId, triggers: [{ event: `${id}/${fnId}` }], retries: 0, ...options }, handler);
  return recording(serve({ client, functions: functions({ app: id, define, sdk }) }));
};

const wrong = (name) => {
  const client = makeClient(`refused-js-${name}`);
  return serve({ client, functions: [refused(client, name)], servePath: `/refused/${name}/api/inngest` });
};

serveApps({
  "/api/inngest": app("flow-js", flowFunctions),
  "/cron/api/inngest": app("flow-js-cron", everySecond),
  ...Object.fromEntries(Object.keys(CASES).map((name) => [`/refused/${name}/api/inngest`, wrong(name)])),
});
