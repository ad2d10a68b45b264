/** Asking the server. Addresses are relative to the page's base, since the pages may be shown under any path. */
import createClient from "openapi-fetch";

import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type Run = Schemas["Run"];
export type RunDetail = Schemas["RunDetail"];
export type Line = Schemas["Line"];
export type Try = Schemas["Try"];
export type EventShown = Schemas["Event"];
export type FunctionHead = Schemas["FunctionHead"];
export type FunctionDetail = Schemas["FunctionDetail"];
export type App = Schemas["App"];

/** Path under which the pages are shown, without a slash at its end. */
export const BASE = new URL(document.baseURI).pathname.replace(/\/$/, "");

export const client = createClient<paths>({
  baseUrl: new URL(document.baseURI).origin + BASE,
  // A name given several times, and a time of 0, are written as they are.
  querySerializer: { array: { style: "form", explode: true } },
});

/** Something that the server refused, in its own words. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** What was answered, or an ApiError with the server's words. */
export async function answered<T>(request: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await request;
  } catch {
    throw new ApiError("The server does not answer. Is it running? This page goes on trying.", 0);
  }
  if (answer.data === undefined) {
    const given = answer.error as { error?: string } | undefined;
    throw new ApiError(given?.error ?? `The server answered ${answer.response.status}.`, answer.response.status);
  }
  return answer.data;
}
