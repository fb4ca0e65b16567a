import type { Theme } from "../session/memory.ts";

/** Follows the system unless a look was chosen; the style sheet does the rest. */
export function applyTheme(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
