/** Where in the page we are, kept in the address after the "#", so that Back and reload work without the server's help. */
import { useSyncExternalStore } from "react";

export const SECTIONS = ["appearance", "auto-reply", "outgoing", "incoming"] as const;
export type Section = (typeof SECTIONS)[number];

export type Route =
  | { view: "home" }
  | { view: "conversation"; conversationId: string }
  | { view: "settings"; section: Section }
  | { view: "notices" };

export function readRoute(hash: string): Route {
  const [view, rest] = hash.replace(/^#\/?/u, "").split("/");
  if (view === "conversation" && rest) return { view, conversationId: rest };
  if (view === "settings") return { view, section: SECTIONS.find((section) => section === rest) ?? "appearance" };
  if (view === "notices") return { view };
  return { view: "home" };
}

export function href(route: Route): string {
  switch (route.view) {
    case "home":
      return "#/";
    case "conversation":
      return `#/conversation/${route.conversationId}`;
    case "settings":
      return `#/settings/${route.section}`;
    case "notices":
      return "#/notices";
  }
}

export function go(route: Route): void {
  location.hash = href(route);
}

export function useRoute(): Route {
  return readRoute(useSyncExternalStore(watchHash, () => location.hash));
}

function watchHash(watcher: () => void): () => void {
  addEventListener("hashchange", watcher);
  return () => {
    removeEventListener("hashchange", watcher);
  };
}
