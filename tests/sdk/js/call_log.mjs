// What an app saw and did, kept so that a test can count it: the same two lists as ../apps/call_log.py,
// and `posts`, the requests that the SDK itself made (checkpoints, state, events).

import { Readable } from "node:stream";

const calls = [];
const notes = [];
const posts = [];

/** The test's key of an event; that of the original event if this one tells of a run's end. */
const keyOf = (event) => {
  for (let data = event?.data; data; data = data.event?.data) {
    if ("key" in data) return String(data.key);
  }
  return null;
};

/** Say that user code ran: `step` of `fn`, in the run, attempt and event of `ctx`. */
export const note = (ctx, step, fn, more = {}) => {
  notes.push({
    key: keyOf(ctx.event), run: ctx.runId, fn, step, attempt: ctx.attempt ?? 0, at: Date.now() / 1000, ...more,
  });
};

/** Lines of one key. Posts carry a run, not a key, so they are found by the runs of the calls. */
export const linesOf = (key) => {
  const own = calls.filter((line) => line.key === key);
  const runs = new Set(own.map((line) => line.run));
  return {
    calls: own,
    notes: notes.filter((line) => line.key === key),
    posts: posts.filter((line) => runs.has(line.run)),
  };
};

/** A `fetch` for the SDK's client that records what it asks of the server. */
export const recordingFetch = async (url, init) => {
  const line = { url: String(url), method: init?.method ?? "GET", at: Date.now() / 1000, status: null, ops: null };
  line.run = /\/(?:checkpoint|http\/runs|v0\/runs)\/([0-9A-Z]{26})/.exec(line.url)?.[1] ?? null;
  if (line.url.includes("/checkpoint/") && typeof init?.body === "string") {
    const body = JSON.parse(init.body);
    line.ops = body.steps?.map((step) => [step.op, step.displayName ?? step.name]);
    line.generation = body.generation_id;
  }
  posts.push(line);
  const answer = await fetch(url, init);
  line.status = answer.status;
  return answer;
};

/** Wrap a node handler so that each POST to it, and its reply, is in the log. */
export const recording = (handler) => async (req, res) => {
  if (req.method !== "POST") return handler(req, res);
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const line = lineOf(req, body.toString("utf8"));
  calls.push(line);
  recordReply(res, line);
  const { headers, method, url, socket } = req;
  return handler(Object.assign(Readable.from([body]), { headers, method, url, socket }), res);
};

/** The same for an app that connects: wrap what it does with a message that holds a call. */
export const recordingCalls = (handle) => async (message) => {
  const body = new TextDecoder().decode(message.requestPayload);
  const query = new URLSearchParams({ fnId: message.functionSlug, stepId: message.stepId ?? "step" });
  const generation = JSON.parse(body).ctx.generation_id;
  const line = lineOf({ url: `/?${query}`, headers: { "x-inngest-generation-id": String(generation) } }, body);
  calls.push(line);
  const answer = await handle(message);
  const status = [206, 200, 500][answer.status];
  noteReply(line, status, status, new TextDecoder().decode(answer.body), {
    "x-inngest-no-retry": answer.noRetry ? "true" : null, "retry-after": answer.retryAfter,
    "x-inngest-req-version": String(answer.requestVersion),
  });
  return answer;
};

const lineOf = (req, text) => {
  const url = new URL(req.url, "http://app");
  const sent = text ? JSON.parse(text) : {};
  const ctx = sent.ctx ?? {};
  return {
    key: keyOf(sent.event), run: ctx.run_id ?? null,
    fn: url.searchParams.get("fnId"), target: url.searchParams.get("stepId"),
    attempt: ctx.attempt, max_attempts: ctx.max_attempts, planned_only: ctx.disable_immediate_execution,
    use_api: sent.use_api, version: sent.version, stack: ctx.stack?.stack, steps: Object.keys(sent.steps ?? {}).sort(),
    generation: req.headers["x-inngest-generation-id"] ?? null, kind: req.headers["x-inngest-server-kind"] ?? null,
    signature: req.headers["x-inngest-signature"] ?? null, at: Date.now() / 1000, status: null,
  };
};

const recordReply = (res, line) => {
  const reply = [];
  const { writeHead, write, end } = res;
  let headers = {};
  let status = 0;
  res.writeHead = function (code, given) {
    status = code;
    headers = Object.fromEntries(Object.entries(given ?? {}).map(([name, value]) => [name.toLowerCase(), value]));
    return writeHead.call(this, code, given);
  };
  res.write = function (chunk, ...rest) {
    reply.push(Buffer.from(chunk));
    return write.call(this, chunk, ...rest);
  };
  res.end = function (chunk, ...rest) {
    if (chunk) reply.push(Buffer.from(chunk));
    const text = Buffer.concat(reply).toString("utf8");
    const wrapped = status === 201 ? parsed(text) : null;
    noteReply(line, status, wrapped?.status ?? status, wrapped ? wrapped.body : text, wrapped?.headers ?? headers);
    return end.call(this, chunk, ...rest);
  };
};

const noteReply = (line, status, final, text, headers) => {
  const body = text.length < 100_000 ? parsed(text) : null;
  Object.assign(line, {
    status, final_status: final, took: Date.now() / 1000 - line.at,
    no_retry: headers["x-inngest-no-retry"] ?? null, retry_after: headers["retry-after"] ?? null,
    reply_version: headers["x-inngest-req-version"] ?? null,
    ops: final === 206 && Array.isArray(body) ? body.map((op) => op.op) : null,
  });
};

const parsed = (text) => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};
