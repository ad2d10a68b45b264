// Keeps the parts of a page up to date that are marked with data-live: the address that gives that part alone.
// It asks once a second until the part says that nothing more happens by itself (data-settled="yes").

const EVERY_MS = 1000;
const SLOWER_MS = 4000;

function settled(part) {
  return part.querySelector("[data-settled]")?.dataset.settled !== "no";
}

function busy(part) {
  // A person who is typing must not lose what they typed.
  return part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");
}

async function keep(part) {
  let shown = null;
  while (!settled(part)) {
    let pause = EVERY_MS;
    try {
      const answer = await fetch(part.dataset.live, { cache: "no-store" });
      const html = answer.ok ? await answer.text() : null;
      part.classList.toggle("stale", html === null);
      if (html !== null && html !== shown && !busy(part)) {
        part.innerHTML = html;
        shown = html;
      }
      if (html === null) pause = SLOWER_MS;
    } catch {
      part.classList.add("stale");
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

for (const part of document.querySelectorAll("[data-live]")) keep(part);
