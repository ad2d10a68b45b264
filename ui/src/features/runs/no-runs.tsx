import { useQuery } from "@tanstack/react-query";

import { serverQuery } from "@/shared/api/server";
import { Button } from "@/shared/components/button";
import { Note } from "@/shared/components/note";

import { Welcome } from "./welcome";

/** An empty list: of a search, of a server that has apps, or of one that has none yet. */
export function NoRuns({ filtered, clear }: { filtered: boolean; clear: () => void }) {
  const server = useQuery(serverQuery);
  if (filtered) {
    return (
      <Note title="No runs like that">
        <p>There may be some of another status, function or time.</p>
        <Button onClick={clear}>Show all runs</Button>
      </Note>
    );
  }
  if (server.data?.apps === 0) return <Welcome />;
  return (
    <Note title="No runs yet">
      <p>They appear here the moment an event starts one.</p>
    </Note>
  );
}
