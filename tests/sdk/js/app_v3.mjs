// Apps on the previous major of the npm SDK, two in one process:
//   /api/inngest        app `js3`        as the SDK is by default: version 1 of the execution protocol
//   /wait/api/inngest   app `js3-wait`   `optimizeParallelism`, which is version 2
// This major has no race groups: without `optimizeParallelism` all of its parallel steps behave so.

import * as sdk from "inngest-v3";
import { serve } from "inngest-v3/node";
import { recordingFetch } from "./call_log.mjs";
import { scenarios } from "./scenarios.mjs";
import { argument, isDev, quiet, recording, serveApps } from "./serving.mjs";

const app = (id, options) => {
  const client = new sdk.Inngest({
    id, baseUrl: argument("server"), isDev, logger: quiet, fetch: recordingFetch, ...options,
  });
  const define = (fnId, { triggers, checkpointing, ...rest }, handler, retries = "own") => {
    const config = { id: fnId, ...rest };
    if (retries === "own") config.retries ??= 0;
    return client.createFunction(config, triggers ?? [{ event: `${id}/${fnId}` }], handler);
  };
  const parallel = (_ctx, work) => work();
  return recording(serve({ client, functions: scenarios({ app: id, sdk, define, parallel }) }));
};

serveApps({
  "/api/inngest": app("js3", {}),
  "/wait/api/inngest": app("js3-wait", { optimizeParallelism: true }),
});
