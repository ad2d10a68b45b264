// The workloads' functions on the official JavaScript SDK, served by plain node:http.
// Run as `node bench/js/app.mjs PORT SERVER_URL`. Control routes as in bench/apps/marks.py.

import { createServer } from "node:http";
import { Inngest } from "inngest";
import { serve } from "inngest/node";

const [port, serverUrl] = process.argv.slice(2);
const PARALLEL_STEP_MS = 100;

// CLOCK_MONOTONIC in ns, the clock that the driver reads too. Kept as BigInt: the value does not fit a double.
const marks = { first: new Map(), last: new Map(), repeated: 0, waiting: [] };

function begin(index) {
  if (!marks.first.has(index)) marks.first.set(index, process.hrtime.bigint());
}

function end(index) {
  if (marks.last.has(index)) {
    marks.repeated += 1;
    return;
  }
  marks.last.set(index, process.hrtime.bigint());
  marks.waiting = marks.waiting.filter(({ count, reached }) => {
    if (marks.last.size < count) return true;
    reached(true);
    return false;
  });
}

function wait(count, timeoutMs) {
  if (marks.last.size >= count) return Promise.resolve(true);
  return new Promise((reached) => {
    marks.waiting.push({ count, reached });
    setTimeout(() => reached(marks.last.size >= count), timeoutMs).unref();
  });
}

function table(map) {
  return `{${[...map].map(([index, ns]) => `"${index}":${ns}`).join(",")}}`;
}

async function control(url) {
  switch (url.pathname) {
    case "/bench/reset":
      marks.first.clear();
      marks.last.clear();
      marks.repeated = 0;
      return "{}";
    case "/bench/wait": {
      const asked = url.searchParams;
      const reached = await wait(Number(asked.get("count")), 1000 * Number(asked.get("timeout")));
      return JSON.stringify({ reached, ended: marks.last.size });
    }
    case "/bench/marks":
      return `{"asked":{},"first":${table(marks.first)},"last":${table(marks.last)},"repeated":${marks.repeated}}`;
    default:
      return '{"error":"unknown control route"}';
  }
}

const inngest = new Inngest({ id: "bench", isDev: true, baseUrl: serverUrl, logger: silent() });

function silent() {
  const nothing = () => {};
  return { info: nothing, warn: nothing, error: console.error, debug: nothing };
}

function stepsInARow(name, count) {
  return inngest.createFunction(
    { id: name, retries: 3, triggers: [{ event: `bench/${name}` }] },
    async ({ event, step }) => {
      const index = event.data.i;
      begin(index);
      for (let number = 0; number < count; number += 1) {
        await step.run(`step-${number}`, () => number);
      }
      end(index);
      return index;
    },
  );
}

const parallel = inngest.createFunction(
  { id: "parallel", retries: 3, triggers: [{ event: "bench/parallel" }] },
  async ({ event, step }) => {
    const index = event.data.i;
    begin(index);
    await Promise.all(
      [0, 1, 2, 3].map((number) =>
        step.run(`branch-${number}`, async () => {
          await new Promise((done) => setTimeout(done, PARALLEL_STEP_MS));
          return number;
        }),
      ),
    );
    end(index);
    return index;
  },
);

const functions = [stepsInARow("instant", 0), stepsInARow("five", 5), stepsInARow("ten", 10), parallel];
const handler = serve({ client: inngest, functions });

createServer(async (request, response) => {
  if (!request.url.startsWith("/bench/")) return handler(request, response);
  const body = await control(new URL(request.url, "http://app"));
  response.writeHead(200, { "Content-Type": "application/json" }).end(body);
}).listen(Number(port), "127.0.0.1");
