import { DropdownMenu } from "radix-ui";
import { Columns3 } from "lucide-react";
import { useEffect, useState } from "react";

export type Visible = Record<string, boolean>;

const KEY = "perdure.runs.columns";
const FIRST: Visible = { started: false, id: false };

/** Which columns are shown, kept in this browser. */
export function useColumns(): [Visible, (visible: Visible) => void] {
  const [visible, setVisible] = useState<Visible>(() => {
    try {
      return { ...FIRST, ...(JSON.parse(localStorage.getItem(KEY) ?? "{}") as Visible) };
    } catch {
      return FIRST;
    }
  });
  useEffect(() => localStorage.setItem(KEY, JSON.stringify(visible)), [visible]);
  return [visible, setVisible];
}

interface Choosable {
  getAllLeafColumns: () => { id: string; columnDef: { header?: unknown } }[];
}

export function Columns({
  table,
  visible,
  onChange,
}: {
  table: Choosable;
  visible: Visible;
  onChange: (visible: Visible) => void;
}) {
  return (
    <DropdownMenu.Root>
      <DropdownMenu.Trigger className="icon-button" aria-label="Choose columns">
        <Columns3 aria-hidden />
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content className="menu" align="start">
          <DropdownMenu.Label className="menu-label">Columns</DropdownMenu.Label>
          {table.getAllLeafColumns().map((column) => (
            <DropdownMenu.CheckboxItem
              key={column.id}
              className="menu-item"
              checked={visible[column.id] !== false}
              onCheckedChange={(checked) => onChange({ ...visible, [column.id]: checked })}
              onSelect={(event) => event.preventDefault()}
            >
              {String(column.columnDef.header)}
            </DropdownMenu.CheckboxItem>
          ))}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}
