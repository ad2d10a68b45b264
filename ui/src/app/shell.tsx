import { useQuery } from "@tanstack/react-query";
import { Link, Outlet } from "@tanstack/react-router";
import { Clock, Moon, Sun, SunMoon } from "lucide-react";

import { BASE } from "@/shared/api/client";
import { useConnected, useLive } from "@/shared/api/live";
import { serverQuery } from "@/shared/api/server";
import { Button } from "@/shared/components/button";
import { useZone } from "@/shared/components/clock";
import { Tip } from "@/shared/components/tip";
import { formatDuration } from "@/shared/format/time";

import { useGoingKeys } from "./going";
import { PAGES } from "./pages";
import { Palette } from "./palette";
import "./shell.css";
import { type Theme, useTheme } from "./theme";

const THEMES: Record<Theme, { next: Theme; icon: typeof Sun; label: string }> = {
  system: { next: "light", icon: SunMoon, label: "as the system" },
  light: { next: "dark", icon: Sun, label: "light" },
  dark: { next: "system", icon: Moon, label: "dark" },
};

/** What stands around every page: where one is, where one can go, and whether the page is live. */
export function Shell() {
  useGoingKeys();
  return (
    <div className="shell">
      <a className="skip" href="#main">
        Skip to the page
      </a>
      <nav className="side" aria-label="Pages">
        <Link to="/runs" search={{}} className="brand" aria-label="Perdure, to the runs">
          <img src={`${BASE}/favicon.svg`} alt="" width="24" height="24" />
          <span>Perdure</span>
        </Link>
        <Palette />
        <ul>
          {PAGES.map(({ to, label, icon: Icon }) => (
            <li key={to}>
              <Link to={to} search={{}} className="side-link" activeProps={{ "aria-current": "page" }}>
                <Icon aria-hidden />
                <span>{label}</span>
              </Link>
            </li>
          ))}
        </ul>
        <Foot />
      </nav>
      <main id="main" tabIndex={-1}>
        <Away />
        <Outlet />
      </main>
    </div>
  );
}

function Foot() {
  const [theme, setTheme] = useTheme();
  const { zone, setZone } = useZone();
  const server = useQuery(serverQuery);
  const look = THEMES[theme];
  useLive((news) => {
    if (news === "resync" || news.apps || news.functions) void server.refetch();
  });
  return (
    <div className="foot">
      <LiveMark />
      {server.data && (
        <span className="version">
          {server.data.mode === "dev" ? "dev server" : "server"} {server.data.version}
        </span>
      )}
      {server.data && server.data.ahead > 0 && (
        <span className="pill" data-tone="warn">
          clock is {formatDuration(server.data.ahead)} ahead
        </span>
      )}
      <div className="foot-buttons">
        <Tip text={`Colours: ${look.label}`}>
          <Button look="quiet" aria-label={`Colours: ${look.label}. Change`} onClick={() => setTheme(look.next)}>
            <look.icon />
          </Button>
        </Tip>
        <Tip text={zone === "utc" ? "Times in UTC" : "Times in your zone"}>
          <Button
            look="quiet"
            aria-label={zone === "utc" ? "Times are in UTC. Show your zone" : "Times are in your zone. Show UTC"}
            onClick={() => setZone(zone === "utc" ? "local" : "utc")}
          >
            <Clock />
            {zone === "utc" ? "UTC" : "local"}
          </Button>
        </Tip>
      </div>
    </div>
  );
}

function LiveMark() {
  const connected = useConnected();
  const word = connected === null ? "Connecting" : connected ? "Live" : "Offline";
  return (
    <span className="status" data-tone={connected ? "ok" : connected === null ? "still" : "bad"} data-moving={connected || undefined}>
      {word}
    </span>
  );
}

function Away() {
  const connected = useConnected();
  if (connected !== false) return null;
  return (
    <div className="away" role="status">
      The server does not answer. What you see is as it was; this page goes on by itself when the server is back.
    </div>
  );
}
