/** The code that sends an event, for people to copy. */

function indent(text: string, by: string): string {
  return text.split("\n").join(`\n${by}`);
}

/** A JSON text as a Python literal. */
export function pythonLiteral(text: string): string {
  return text.replace(/"(?:\\.|[^"\\])*"|\b(?:true|false|null)\b/g, (found) => {
    if (found.startsWith('"')) return found;
    return { true: "True", false: "False", null: "None" }[found] ?? found;
  });
}

export interface Snippet {
  id: string;
  label: string;
  text: string;
}

/** How to send an event (its JSON text) from Python, from TypeScript and from a terminal. */
export function snippetsOf(event: string, origin: string): Snippet[] {
  let name = "app/event";
  let data = "{}";
  let compact = event;
  try {
    const read = JSON.parse(event) as { name?: string; data?: unknown };
    name = read.name ?? name;
    data = JSON.stringify(read.data ?? {}, null, 2);
    compact = JSON.stringify(read);
  } catch {
    // Half-written JSON: the code shows what there was before the mistake, as far as that goes.
  }
  const quoted = JSON.stringify(name);
  return [
    {
      id: "python",
      label: "Python",
      text: `await app.send(perdure.Event(${quoted}, data=${indent(pythonLiteral(data), "")}))`,
    },
    {
      id: "typescript",
      label: "TypeScript",
      text: `await inngest.send({ name: ${quoted}, data: ${data} });`,
    },
    {
      id: "curl",
      label: "cURL",
      text: `curl -X POST ${origin}/e/key -H 'content-type: application/json' \\\n  -d '${compact.replaceAll("'", "'\\''")}'`,
    },
    { id: "terminal", label: "Terminal", text: `perdure send ${name} --data '${JSON.stringify(JSON.parse(data)).replaceAll("'", "'\\''")}'` },
  ];
}
