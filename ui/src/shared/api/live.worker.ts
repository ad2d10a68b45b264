/**
 * One live stream for all pages of a browser.
 *
 * Over HTTP/1.1 a browser opens six connections to a host; with a stream a tab the seventh tab would hang.
 */
import type { FromWorker } from "./live";

const ports = new Set<MessagePort>();
let source: EventSource | undefined;
let state: FromWorker = { kind: "state", connected: false };

function tell(message: FromWorker): void {
  for (const port of ports) port.postMessage(message);
}

function setConnected(connected: boolean): void {
  state = { kind: "state", connected };
  tell(state);
}

function start(url: string): void {
  if (source !== undefined) return;
  source = new EventSource(url);
  source.onopen = () => setConnected(true);
  source.onerror = () => {
    setConnected(false);
    if (source?.readyState === EventSource.CLOSED) {
      source = undefined;
      setTimeout(() => start(url), 2000);
    }
  };
  source.addEventListener("update", (event) => tell({ kind: "update", data: event.data as string }));
  source.addEventListener("resync", () => tell({ kind: "resync" }));
}

addEventListener("connect", (event) => {
  const port = (event as MessageEvent).ports[0];
  if (port === undefined) return;
  ports.add(port);
  port.onmessage = (message: MessageEvent<{ url?: string; bye?: boolean }>) => {
    if (message.data.bye) ports.delete(port);
    else if (message.data.url !== undefined) start(message.data.url);
  };
  port.postMessage(state);
});
