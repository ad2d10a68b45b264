import { DropdownMenu } from "radix-ui";
import { Bookmark, Trash2 } from "lucide-react";
import { useEffect, useState } from "react";

import { Button } from "@/shared/components/button";
import { Dialog } from "@/shared/components/dialog";

import { readRunsSearch, type RunsSearch } from "./search";

const KEY = "perdure.runs.views";

interface View {
  name: string;
  search: RunsSearch;
}

function stored(): View[] {
  try {
    const read = JSON.parse(localStorage.getItem(KEY) ?? "[]") as { name: string; search: Record<string, unknown> }[];
    return read.map(({ name, search }) => ({ name, search: readRunsSearch(search) }));
  } catch {
    return [];
  }
}

/** Searches that were given a name, kept in this browser. */
export function Views({ search, onChoose }: { search: RunsSearch; onChoose: (search: RunsSearch) => void }) {
  const [views, setViews] = useState(stored);
  const [naming, setNaming] = useState(false);
  useEffect(() => localStorage.setItem(KEY, JSON.stringify(views)), [views]);
  const save = (name: string): void => {
    setViews((old) => [...old.filter((one) => one.name !== name), { name, search }]);
    setNaming(false);
  };
  return (
    <>
      <DropdownMenu.Root>
        <DropdownMenu.Trigger asChild>
          <Button look="quiet" aria-label="Saved views">
            <Bookmark />
          </Button>
        </DropdownMenu.Trigger>
        <DropdownMenu.Portal>
          <DropdownMenu.Content className="menu" align="end" sideOffset={4}>
            {views.length === 0 && <DropdownMenu.Label className="menu-label">No saved views yet</DropdownMenu.Label>}
            {views.map((view) => (
              <DropdownMenu.Item key={view.name} className="menu-item" onSelect={() => onChoose(view.search)}>
                {view.name}
              </DropdownMenu.Item>
            ))}
            <DropdownMenu.Separator className="menu-line" />
            <DropdownMenu.Item className="menu-item" onSelect={() => setNaming(true)}>
              <Bookmark size={14} aria-hidden /> Save what is shown
            </DropdownMenu.Item>
            {views.length > 0 && (
              <DropdownMenu.Sub>
                <DropdownMenu.SubTrigger className="menu-item">
                  <Trash2 size={14} aria-hidden /> Remove
                </DropdownMenu.SubTrigger>
                <DropdownMenu.Portal>
                  <DropdownMenu.SubContent className="menu">
                    {views.map((view) => (
                      <DropdownMenu.Item
                        key={view.name}
                        className="menu-item"
                        onSelect={() => setViews((old) => old.filter((one) => one !== view))}
                      >
                        {view.name}
                      </DropdownMenu.Item>
                    ))}
                  </DropdownMenu.SubContent>
                </DropdownMenu.Portal>
              </DropdownMenu.Sub>
            )}
          </DropdownMenu.Content>
        </DropdownMenu.Portal>
      </DropdownMenu.Root>
      <Dialog title="Save what is shown" open={naming} onClose={() => setNaming(false)}>
        <form
          className="row"
          onSubmit={(event) => {
            event.preventDefault();
            const name = new FormData(event.currentTarget).get("name");
            if (typeof name === "string" && name.trim() !== "") save(name.trim());
          }}
        >
          <input className="input" name="name" placeholder="Failed imports" aria-label="Name of the view" maxLength={60} />
          <Button type="submit" look="primary">
            Save
          </Button>
        </form>
      </Dialog>
    </>
  );
}
