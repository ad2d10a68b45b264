import { Tabs } from "radix-ui";

import { CopyButton } from "@/shared/components/copy";

const STARTS = [
  {
    id: "python",
    label: "Python",
    text: `import perdure
from fastapi import FastAPI

app = FastAPI()
jobs = perdure.App("my-app")

@jobs.function(on="app/greeted")
async def greet(event, step):
    return await step.run("say-hello", lambda: f"Hello {event['name']}")

jobs.mount(app)          # uvicorn main:app --port 8000`,
  },
  {
    id: "typescript",
    label: "TypeScript",
    text: `import express from "express";
import { Inngest } from "inngest";
import { serve } from "inngest/express";

const inngest = new Inngest({ id: "my-app", isDev: true });
const greet = inngest.createFunction(
  { id: "greet", triggers: [{ event: "app/greeted" }] },
  async ({ event, step }) => step.run("say-hello", () => \`Hello \${event.data.name}\`),
);
express()
  .use(express.json())
  .use("/api/inngest", serve({ client: inngest, functions: [greet] }))
  .listen(3000);`,
  },
  { id: "example", label: "Example app", text: "make run" },
];

/** A server without apps: how to give it one. It turns into the live list when the first app is found. */
export function Welcome() {
  return (
    <div className="welcome">
      <h2>Waiting for your first app</h2>
      <p>
        This server looks for apps on the usual ports of this machine by itself. Start one of these, and it appears here
        within seconds.
      </p>
      <Tabs.Root defaultValue="python">
        <Tabs.List className="tabs" aria-label="Ways to begin">
          {STARTS.map(({ id, label }) => (
            <Tabs.Trigger key={id} value={id} className="tab">
              {label}
            </Tabs.Trigger>
          ))}
        </Tabs.List>
        {STARTS.map(({ id, label, text }) => (
          <Tabs.Content key={id} value={id} className="block">
            <div className="block-head">
              <span />
              <CopyButton text={text} what={`the ${label} start`} />
            </div>
            <pre className="json">{text}</pre>
          </Tabs.Content>
        ))}
      </Tabs.Root>
      <p>
        Is your app elsewhere? Add it by its URL on the page of apps, or start the server with{" "}
        <code>perdure dev -u http://host:port/api/inngest</code>.
      </p>
    </div>
  );
}
