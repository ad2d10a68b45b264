/** JSON as people read it. */

/** JSON text, indented; as it is if it cannot be read. Numbers too long for JavaScript stay as they were written. */
export function pretty(text: string): string {
  if (text.length > 200_000 || /[-\d.]{16,}/.test(text)) return indented(text);
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** Indents without reading values, so that none is changed. */
function indented(text: string): string {
  let depth = 0;
  let out = "";
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    if (char === '"') {
      const end = endOfString(text, at);
      out += text.slice(at, end);
      at = end - 1;
    } else if (char === "{" || char === "[") {
      const close = char === "{" ? "}" : "]";
      const next = text.slice(at + 1).trimStart();
      if (next.startsWith(close)) {
        out += char + close;
        at += text.slice(at + 1).indexOf(close) + 1;
      } else {
        out += `${char}\n${"  ".repeat(++depth)}`;
      }
    } else if (char === "}" || char === "]") {
      out += `\n${"  ".repeat(--depth)}${char}`;
    } else if (char === ",") {
      out += `,\n${"  ".repeat(depth)}`;
    } else if (char === ":") {
      out += ": ";
    } else if (!/\s/.test(char)) {
      out += char;
    }
  }
  return out;
}

function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text.charAt(at) === "\\") at++;
    else if (text.charAt(at) === '"') return at + 1;
  }
  return text.length;
}
