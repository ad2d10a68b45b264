// An app on the previous major of the npm SDK that connects to the server. Nothing is served to it.

import * as sdk from "inngest-v3";
import { connect } from "inngest-v3/connect";
import { recordingFetch, recordingCalls } from "./call_log.mjs";
import { InngestCommHandler } from "./node_modules/inngest-v3/components/InngestCommHandler.js";
import { scenarios } from "./scenarios.mjs";
import { argument, isDev, quiet, serveApps } from "./serving.mjs";

const createHandler = InngestCommHandler.prototype.createHandler;
InngestCommHandler.prototype.createHandler = function () {
  return recordingCalls(createHandler.call(this));
};

const id = "js3-connect";
const client = new sdk.Inngest({ id, baseUrl: argument("server"), isDev, logger: quiet, fetch: recordingFetch });
const define = (fnId, { triggers, checkpointing, ...rest }, handler, retries = "own") => {
  const config = { id: fnId, ...rest };
  if (retries === "own") config.retries ??= 0;
  return client.createFunction(config, triggers ?? [{ event: `${id}/${fnId}` }], handler);
};
const parallel = (_ctx, work) => work();

serveApps({});
const connection = await connect({
  apps: [{ client, functions: scenarios({ app: id, sdk, define, parallel }) }], instanceId: "official-js3",
});
await connection.closed;
process.exit(0);
