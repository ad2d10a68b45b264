// Reads JavaScript examples (a JSON array of texts) from standard input, and prints the configurations that the SDK makes of them.

import { text } from "node:stream/consumers";
import { Inngest } from "inngest";

const inngest = new Inngest({ id: "shop", isDev: true });
const baseUrl = new URL("http://localhost:3000/api/inngest");
const configs = JSON.parse(await text(process.stdin)).map((example) => {
  const fn = new Function("inngest", "handler", `return ${example}`)(inngest, async () => {});
  return fn.getConfig({ baseUrl, appPrefix: "shop" })[0];
});
process.stdout.write(JSON.stringify(configs));
