/** The keys that work everywhere. All take a modifier, so that none is in the way of typing or of a screen reader. */
import { useEffect, useEffectEvent } from "react";

export interface ShortcutActions {
  search: () => void;
  newGroup: () => void;
  step: (by: 1 | -1) => void;
  help: () => void;
}

export const SHORTCUTS = [
  { keys: ["Ctrl", "K"], what: "Find people and conversations" },
  { keys: ["Alt", "N"], what: "New group" },
  { keys: ["Alt", "↓"], what: "Next conversation" },
  { keys: ["Alt", "↑"], what: "Previous conversation" },
  { keys: ["Enter"], what: "Send the message" },
  { keys: ["Shift", "Enter"], what: "New line in the message" },
  { keys: ["Escape"], what: "Close a dialog; leave the code editor with Tab after it" },
  { keys: ["Ctrl", "/"], what: "This list" },
];

export function useShortcuts(actions: ShortcutActions): void {
  const pressed = useEffectEvent((event: KeyboardEvent) => {
    const action = document.querySelector("dialog[open]") ? null : actionOf(event, actions);
    if (!action) return;
    event.preventDefault();
    action();
  });
  useEffect(() => {
    const listener = (event: KeyboardEvent) => {
      pressed(event);
    };
    addEventListener("keydown", listener);
    return () => {
      removeEventListener("keydown", listener);
    };
  }, []);
}

function actionOf(event: KeyboardEvent, actions: ShortcutActions): (() => void) | null {
  const control = event.ctrlKey || event.metaKey;
  if (control && event.key === "k") return actions.search;
  if (control && event.key === "/") return actions.help;
  if (!event.altKey || control) return null;
  if (event.code === "KeyN") return actions.newGroup;
  const step = { ArrowDown: 1, ArrowUp: -1 } as const;
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return null;
  const by = step[event.key];
  return () => {
    actions.step(by);
  };
}
