import { describe, expect, it } from "vitest";

import { pythonLiteral, snippetsOf } from "./code";

const text = (id: string, event: string): string => snippetsOf(event, "http://h").find((one) => one.id === id)?.text ?? "";

describe("code to copy", () => {
  it("is Python where it says so", () => {
    expect(pythonLiteral('{"a": true, "true": null, "b": "false"}')).toBe('{"a": True, "true": None, "b": "false"}');
    expect(text("python", '{"name":"a/b","data":{"ok":true}}')).toBe(
      'await app.send(perdure.Event("a/b", data={\n  "ok": True\n}))',
    );
  });

  it("survives quotes in a shell", () => {
    expect(text("curl", `{"name":"a","data":{"s":"it's"}}`)).toContain(`it'\\''s`);
    expect(text("terminal", `{"name":"a","data":{"s":"it's"}}`)).toBe(`perdure send a --data '{"s":"it'\\''s"}'`);
  });

  it("is there while the event is half written", () => {
    expect(text("typescript", '{"name":')).toBe('await inngest.send({ name: "app/event", data: {} });');
  });
});
