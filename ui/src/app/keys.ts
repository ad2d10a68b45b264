/** The keys that work, as the help shows them. */
export const KEYS: [string[], string][] = [
  [["Ctrl", "K"], "Search pages, functions, runs and events"],
  [["?"], "Show these keys"],
  [["g", "r"], "Go to the runs"],
  [["g", "f"], "Go to the functions"],
  [["g", "e"], "Go to the events"],
  [["g", "a"], "Go to the apps"],
  [["g", "s"], "Go to the schedules"],
  [["g", "m"], "Go to the metrics"],
  [["j"], "Next line of a list or trace"],
  [["k"], "Line before"],
  [["Enter"], "Open it"],
  [["x"], "Select it"],
  [["Esc"], "Let go, or go back"],
];
