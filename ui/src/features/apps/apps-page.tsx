import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { RefreshCw } from "lucide-react";
import { useState } from "react";

import { answered, type App, client } from "@/shared/api/client";
import { useLive } from "@/shared/api/live";
import { Button } from "@/shared/components/button";
import { Ago } from "@/shared/components/clock";
import { Note, Skeleton, Trouble } from "@/shared/components/note";
import { toast, toastError } from "@/shared/components/toasts";
import "./apps.css";

const KEY = ["apps"];

function useSync() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (url: string) => answered(client.POST("/api/apps/sync", { body: { url } })),
    onSuccess: ({ url, problem }) => {
      toast(problem ?? `${url} is in sync`, problem ? "bad" : "ok");
      void queries.invalidateQueries({ queryKey: KEY });
    },
    onError: toastError,
  });
}

export function AppsPage() {
  const query = useQuery({ queryKey: KEY, queryFn: () => answered(client.GET("/api/apps")) });
  const sync = useSync();
  const [url, setUrl] = useState("");
  useLive((news) => {
    if (news === "resync" || news.apps || news.functions) void query.refetch();
  });
  return (
    <div className="page">
      <header className="page-head">
        <h1>Apps</h1>
        <form
          className="add"
          onSubmit={(event) => {
            event.preventDefault();
            sync.mutate(url, { onSuccess: ({ problem }) => (problem ? undefined : setUrl("")) });
          }}
        >
          <input
            className="input"
            type="url"
            required
            placeholder="http://localhost:3000/api/inngest"
            aria-label="URL of an app to add"
            value={url}
            onChange={(event) => setUrl(event.target.value)}
          />
          <Button type="submit" look="primary" disabled={sync.isPending}>
            Add app
          </Button>
        </form>
      </header>
      <div className="page-body">
        {query.isPending && <Skeleton />}
        {query.isError && <Trouble error={query.error} retry={() => void query.refetch()} />}
        {query.data?.apps.length === 0 && (
          <Note title="No apps yet">
            <p>Apps on the usual ports of this machine are found by themselves. Others are added by their URL, above.</p>
          </Note>
        )}
        <ul className="apps">
          {query.data?.apps.map((app) => (
            <AppCard key={app.id} app={app} busy={sync.isPending} sync={() => sync.mutate(app.url)} />
          ))}
        </ul>
      </div>
    </div>
  );
}

function AppCard({ app, busy, sync }: { app: App; busy: boolean; sync: () => void }) {
  return (
    <li className="app">
      <header>
        <h2>{app.name || app.url}</h2>
        <span className="status" data-tone={app.error ? "bad" : "ok"}>
          {app.error ? "Cannot be synced" : "Synced"}
        </span>
        <span className="grow" />
        {!app.connected && (
          <Button disabled={busy} onClick={sync}>
            <RefreshCw /> Sync
          </Button>
        )}
      </header>
      {app.error && (
        <p className="problem" role="status">
          {app.error}
        </p>
      )}
      <dl className="facts">
        <dt>URL</dt>
        <dd>
          <code>{app.connected ? "connected by a worker" : app.url}</code>
        </dd>
        <dt>SDK</dt>
        <dd>
          {app.sdk || "unknown"}
          {app.framework && ` on ${app.framework}`}
        </dd>
        {app.version && (
          <>
            <dt>Version</dt>
            <dd>{app.version}</dd>
          </>
        )}
        <dt>Last sync</dt>
        <dd>
          <Ago at={app.synced_at} />
        </dd>
        {app.connected && (
          <>
            <dt>Workers</dt>
            <dd>
              <Workers workers={app.workers} />
            </dd>
          </>
        )}
        <dt>Functions</dt>
        <dd className="names">
          {app.functions.map((slug) => (
            <Link key={slug} to="/functions/$slug" params={{ slug }}>
              {slug}
            </Link>
          ))}
          {app.functions.length === 0 && "none"}
        </dd>
      </dl>
    </li>
  );
}

function Workers({ workers }: { workers: App["workers"] }) {
  if (workers.length === 0) return <span className="status" data-tone="bad">none is connected: runs wait</span>;
  return (
    <ul className="workers">
      {workers.map((worker) => (
        <li key={worker.id}>
          <span className="status" data-tone={worker.status === "ready" ? "ok" : "warn"}>
            {worker.instance}
          </span>
          <span className="quiet">
            {worker.in_use} of {worker.capacity ?? "any number of"} calls, {worker.status}, since{" "}
            <Ago at={worker.connected_at} />
          </span>
        </li>
      ))}
    </ul>
  );
}
