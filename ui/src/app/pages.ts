import { AppWindow, CalendarDays, ChartLine, FunctionSquare, ListTree, Zap } from "lucide-react";

/** The pages, as the side bar and the search show them. `key` follows a `g`. */
export const PAGES = [
  { to: "/runs", label: "Runs", icon: ListTree, key: "r" },
  { to: "/functions", label: "Functions", icon: FunctionSquare, key: "f" },
  { to: "/events", label: "Events", icon: Zap, key: "e" },
  { to: "/apps", label: "Apps", icon: AppWindow, key: "a" },
  { to: "/schedules", label: "Schedules", icon: CalendarDays, key: "s" },
  { to: "/metrics", label: "Metrics", icon: ChartLine, key: "m" },
] as const;
