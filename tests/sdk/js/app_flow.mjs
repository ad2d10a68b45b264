// Apps on the current major of the npm SDK whose functions are under rules of flow control, in one process:
//   /api/inngest        app `flow-js`, with checkpointing as the SDK has it by default (on)
//   /cron/api/inngest   app `flow-js-cron`

import * as sdk from "inngest";
import { serve } from "inngest/node";
import { recordingFetch } from "./call_log.mjs";
import { everySecond, flowFunctions } from "./flow.mjs";
import { argument, isDev, quiet, recording, serveApps } from "./serving.mjs";

const app = (id, functions) => {
  const client = new sdk.Inngest({
    id, baseUrl: argument("server"), isDev, logger: quiet, internalLogger: quiet, fetch: recordingFetch,
  });
  const define = (fnId, options, handler) =>
    client.createFunction({ id: fnId, triggers: [{ event: `${id}/${fnId}` }], retries: 0, ...options }, handler);
  return recording(serve({ client, functions: functions({ app: id, define, sdk }) }));
};

serveApps({
  "/api/inngest": app("flow-js", flowFunctions),
  "/cron/api/inngest": app("flow-js-cron", everySecond),
});
