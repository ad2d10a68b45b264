/** Which page is shown at which address. Pages but the first are loaded when they are wanted. */
import type { QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  redirect,
} from "@tanstack/react-router";

import { RunsPage } from "@/features/runs/runs-page";
import { readMetricsSearch } from "@/features/metrics/search";
import { readRunsSearch } from "@/features/runs/search";
import { BASE } from "@/shared/api/client";
import { Note, Skeleton, Trouble } from "@/shared/components/note";

import { Shell } from "./shell";

const root = createRootRouteWithContext<{ queries: QueryClient }>()({
  component: Shell,
  notFoundComponent: () => (
    <Note title="There is no such page">
      <p>The address may be mistyped, or what it showed is gone.</p>
    </Note>
  ),
});

const index = createRoute({
  getParentRoute: () => root,
  path: "/",
  beforeLoad: () => {
    // eslint-disable-next-line @typescript-eslint/only-throw-error -- how the router takes a redirect
    throw redirect({ to: "/runs", search: {} });
  },
});

const runs = createRoute({
  getParentRoute: () => root,
  path: "/runs",
  validateSearch: readRunsSearch,
  component: RunsPage,
});

const run = createRoute({
  getParentRoute: () => root,
  path: "/runs/$runId",
  validateSearch: (given: Record<string, unknown>): { line?: string } =>
    typeof given["line"] === "string" ? { line: given["line"] } : {},
  component: lazyRouteComponent(() => import("@/features/run/run-page"), "RunPage"),
});

const compare = createRoute({
  getParentRoute: () => root,
  path: "/runs/$runId/compare/$otherId",
  component: lazyRouteComponent(() => import("@/features/run/compare-page"), "ComparePage"),
});

const functions = createRoute({
  getParentRoute: () => root,
  path: "/functions",
  component: lazyRouteComponent(() => import("@/features/functions/functions-page"), "FunctionsPage"),
});

const fn = createRoute({
  getParentRoute: () => root,
  path: "/functions/$slug",
  component: lazyRouteComponent(() => import("@/features/functions/function-page"), "FunctionPage"),
});

const events = createRoute({
  getParentRoute: () => root,
  path: "/events",
  validateSearch: (given: Record<string, unknown>): { name?: string; internal?: boolean } => ({
    ...(typeof given["name"] === "string" && given["name"] !== "" ? { name: given["name"] } : {}),
    ...(given["internal"] === true ? { internal: true } : {}),
  }),
  component: lazyRouteComponent(() => import("@/features/events/events-page"), "EventsPage"),
});

const event = createRoute({
  getParentRoute: () => root,
  path: "/events/$eventId",
  component: lazyRouteComponent(() => import("@/features/events/event-page"), "EventPage"),
});

const apps = createRoute({
  getParentRoute: () => root,
  path: "/apps",
  component: lazyRouteComponent(() => import("@/features/apps/apps-page"), "AppsPage"),
});

const metrics = createRoute({
  getParentRoute: () => root,
  path: "/metrics",
  validateSearch: readMetricsSearch,
  component: lazyRouteComponent(() => import("@/features/metrics/metrics-page"), "MetricsPage"),
});

const schedules = createRoute({
  getParentRoute: () => root,
  path: "/schedules",
  component: lazyRouteComponent(() => import("@/features/schedules/schedules-page"), "SchedulesPage"),
});

export function makeRouter(queries: QueryClient) {
  return createRouter({
    routeTree: root.addChildren([index, runs, run, compare, functions, fn, events, event, apps, metrics, schedules]),
    context: { queries },
    basepath: BASE || "/",
    defaultPreload: "intent",
    defaultPendingComponent: () => <Skeleton />,
    defaultErrorComponent: ({ error, reset }) => <Trouble error={error as Error} retry={reset} />,
    scrollRestoration: false,
  });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof makeRouter>;
  }
}
