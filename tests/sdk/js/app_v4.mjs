// Apps on the current major of the npm SDK, three in one process:
//   /api/inngest         app `js`         checkpointing as the SDK has it by default (on)
//   /plain/api/inngest   app `js-plain`   checkpointing off
//   /stream/api/inngest  app `js-stream`  checkpointing off, streamed replies

import * as sdk from "inngest";
import { serve } from "inngest/node";
import { recordingFetch } from "./call_log.mjs";
import { scenarios } from "./scenarios.mjs";
import { argument, isDev, quiet, recording, serveApps } from "./serving.mjs";

const app = (id, { options = {}, serving = {} }) => {
  const client = new sdk.Inngest({
    id, baseUrl: argument("server"), isDev, logger: quiet, internalLogger: quiet, fetch: recordingFetch, ...options,
  });
  const define = (fnId, { triggers, ...rest }, handler, retries = "own") => {
    const config = { id: fnId, triggers: triggers ?? [{ event: `${id}/${fnId}` }], ...rest };
    if (retries === "own") config.retries ??= 0;
    if (options.checkpointing === false) delete config.checkpointing;
    return client.createFunction(config, handler);
  };
  const parallel = (ctx, work) => ctx.group.parallel({ mode: "race" }, work);
  return recording(serve({ client, functions: scenarios({ app: id, sdk, define, parallel }), ...serving }));
};

serveApps({
  "/api/inngest": app("js", {}),
  "/plain/api/inngest": app("js-plain", { options: { checkpointing: false } }),
  "/stream/api/inngest": app("js-stream", {
    options: { checkpointing: false }, serving: { streaming: true, servePath: "/stream/api/inngest" },
  }),
});
