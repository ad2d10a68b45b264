// Apps on the current major of the npm SDK that connect to the server, two over one connection:
//   js-connect         checkpointing as the SDK has it by default (on)
//   js-connect-plain   checkpointing off
// Nothing is served to the server. SIGTERM drains, as the SDK does it by itself.

import * as sdk from "inngest";
import { connect } from "inngest/connect";
import { recordingFetch, recordingCalls } from "./call_log.mjs";
import { InngestCommHandler } from "./node_modules/inngest/components/InngestCommHandler.js";
import { scenarios } from "./scenarios.mjs";
import { argument, isDev, quiet, serveApps } from "./serving.mjs";

const createHandler = InngestCommHandler.prototype.createHandler;
InngestCommHandler.prototype.createHandler = function () {
  return recordingCalls(createHandler.call(this));
};

const app = (id, options = {}) => {
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
  return { client, functions: scenarios({ app: id, sdk, define, parallel }) };
};

// A thread of Node.js before 22 has no WebSockets.
const isolateExecution = Number(process.versions.node.split(".")[0]) >= 22;

serveApps({});
const connection = await connect({
  apps: [app("js-connect"), app("js-connect-plain", { checkpointing: false })], instanceId: "official-js", isolateExecution,
});
await connection.closed;
process.exit(0);
