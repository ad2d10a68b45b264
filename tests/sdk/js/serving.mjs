// One node process with several apps, each on a path of its own; the same for both majors of the SDK.

import http from "node:http";
import { linesOf, recording } from "./call_log.mjs";

/** The value of a `--name value` argument. */
export const argument = (name) => process.argv[process.argv.indexOf(`--${name}`) + 1];

/** Production mode if the environment has a signing key: the SDK then verifies calls and demands keys. */
export const isDev = !process.env.INNGEST_SIGNING_KEY;

export const quiet = Object.fromEntries(["info", "warn", "error", "debug"].map((level) => [level, () => {}]));

/** Serve `mounts`, a map from path to a node handler of the SDK, and `GET /log?key=`. */
export const serveApps = (mounts) => {
  const server = http.createServer((req, res) => {
    const url = new URL(req.url, "http://app");
    if (url.pathname === "/log") {
      res.writeHead(200, { "content-type": "application/json" });
      return res.end(JSON.stringify(linesOf(url.searchParams.get("key"))));
    }
    const handler = mounts[url.pathname];
    if (handler) return handler(req, res);
    res.writeHead(404);
    return res.end();
  });
  server.keepAliveTimeout = 5000;
  server.listen(Number(argument("port")), "127.0.0.1");
};

export { recording };
