import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { Send } from "lucide-react";
import { useMemo, useState } from "react";

import type { EventShown } from "@/shared/api/client";
import { useRereading } from "@/shared/api/rereading";
import { Button } from "@/shared/components/button";
import { Ago } from "@/shared/components/clock";
import { Note, Skeleton, Trouble } from "@/shared/components/note";

import { again, eventsQuery, FIRST } from "./api";
import { SendDialog } from "./send-dialog";
import "./events.css";

const REREAD_MS = 400;

export function EventsPage() {
  const search = useSearch({ from: "/events" });
  const navigate = useNavigate({ from: "/events" });
  const query = useInfiniteQuery(eventsQuery(search));
  const [sending, setSending] = useState(false);
  useRereading(
    () => void query.refetch(),
    REREAD_MS,
    (news) => news.more || news.events.some((one) => search.internal || !one.internal),
  );
  const rows = useMemo(() => query.data?.pages.flatMap((page) => page.events) ?? [], [query.data]);
  const set = (next: typeof search): void => void navigate({ search: next, replace: true });
  return (
    <div className="page">
      <header className="page-head">
        <h1>Events</h1>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            const given = new FormData(event.currentTarget).get("name");
            const name = typeof given === "string" ? given.trim() : "";
            set({ ...(name && { name }), ...(search.internal && { internal: true }) });
          }}
        >
          <input
            className="input"
            type="search"
            name="name"
            placeholder="Exact name, then Enter"
            aria-label="Name of the events"
            defaultValue={search.name}
          />
        </form>
        <label className="check">
          <input
            type="checkbox"
            checked={search.internal ?? false}
            onChange={(event) =>
              set({ ...(search.name && { name: search.name }), ...(event.target.checked && { internal: true }) })
            }
          />
          the server's own too
        </label>
        <span className="grow" />
        <Button look="primary" onClick={() => setSending(true)}>
          <Send /> Send event
        </Button>
        <SendDialog open={sending} onClose={() => setSending(false)} first={rows[0] ? again(rows[0]) : FIRST} />
      </header>
      <div className="page-body">
        {query.isPending && <Skeleton lines={10} />}
        {query.isError && rows.length === 0 && <Trouble error={query.error} retry={() => void query.refetch()} />}
        {query.isSuccess && rows.length === 0 && (
          <Note title={search.name ? "No events of that name" : "No events yet"}>
            <p>
              Send one: <code>perdure send app/greeted --data '{"{}"}'</code>
            </p>
          </Note>
        )}
        <ul className="cards">
          {rows.map((event) => (
            <Row key={event.internal_id} event={event} />
          ))}
        </ul>
        {query.hasNextPage && (
          <p className="more">
            <Button disabled={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
              Older events
            </Button>
          </p>
        )}
      </div>
    </div>
  );
}

function Row({ event }: { event: EventShown }) {
  const payload = useMemo(() => JSON.stringify((event.payload as { data?: unknown }).data ?? {}), [event.payload]);
  return (
    <li className="event">
      <Link to="/events/$eventId" params={{ eventId: event.internal_id }} className="event-name">
        {event.name}
      </Link>
      <code>{payload}</code>
      <span className="quiet">
        <Ago at={event.received_at} />
      </span>
    </li>
  );
}
