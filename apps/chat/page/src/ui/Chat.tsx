import { useEffect, useRef, useState } from "react";
import { listedThreads, unreadTotal } from "../model/names.ts";
import type { Memory } from "../session/memory.ts";
import type { Session } from "../session/session.ts";
import { ConnectionBar } from "./ConnectionBar.tsx";
import { ConversationView } from "./ConversationView.tsx";
import { Empty, Loading } from "./controls.tsx";
import { Help } from "./Help.tsx";
import { useChat, useSession, useStore } from "./hooks.ts";
import { NewGroup } from "./NewGroup.tsx";
import { Notices } from "./Notices.tsx";
import { Renew } from "./Renew.tsx";
import { type Route, go, href, useRoute } from "./route.ts";
import { Settings } from "./settings/Settings.tsx";
import { useShortcuts } from "./shortcuts.ts";
import { Sidebar } from "./Sidebar.tsx";
import { Toasts } from "./Toasts.tsx";

type OpenDialog = "none" | "help" | "group";

/** The chat of someone signed in: the list at the side, one view beside it, dialogs and toasts above. */
export function Chat({ memory, onLogOut }: { memory: Memory; onLogOut: () => void }) {
  const session = useSession();
  const state = useChat();
  const route = useRoute();
  const search = useRef<HTMLInputElement>(null);
  const [dialog, setDialog] = useState<OpenDialog>("none");
  const unread = unreadTotal(state);
  useAttention(session);
  useFocusInView(route);
  useShortcuts({
    search: () => search.current?.focus(),
    newGroup: () => {
      setDialog("group");
    },
    help: () => {
      setDialog("help");
    },
    step: (by) => {
      step(session, route, by);
    },
  });
  const close = () => {
    setDialog("none");
  };

  return (
    <div className="app" data-view={route.view}>
      <title>{unread > 0 ? `(${unread}) Chat` : "Chat"}</title>
      <a className="skip" href="#main" onClick={focusMain}>
        Skip to content
      </a>
      <ConnectionBar />
      <Sidebar
        route={route}
        search={search}
        onNewGroup={() => {
          setDialog("group");
        }}
        onHelp={() => {
          setDialog("help");
        }}
        onLogOut={onLogOut}
      />
      <main id="main" className="main" tabIndex={-1}>
        <View route={route} memory={memory} />
      </main>
      {dialog === "help" && <Help onClose={close} />}
      {dialog === "group" && <NewGroup onClose={close} />}
      <Renew onLogOut={onLogOut} />
      <Toasts />
    </div>
  );
}

function View({ route, memory }: { route: Route; memory: Memory }) {
  const loadState = useStore(useSession().loadState);
  switch (route.view) {
    case "settings":
      return <Settings section={route.section} memory={memory} />;
    case "notices":
      return <Notices />;
    case "conversation":
      if (loadState !== "ready") return <Loading what="the conversation" />;
      return <ConversationView key={route.conversationId} conversationId={route.conversationId} />;
    case "home":
      return (
        <Empty title="Nothing open">
          <p>Choose a conversation or a person from the list.</p>
        </Empty>
      );
  }
}

/** Tells the session whether anybody is looking, and that the network is back. */
function useAttention(session: Session): void {
  useEffect(() => {
    const attention = () => {
      session.attend(document.visibilityState === "visible" && document.hasFocus());
    };
    const online = () => {
      session.retryNow();
    };
    const events = ["focus", "blur"] as const;
    for (const name of events) addEventListener(name, attention);
    document.addEventListener("visibilitychange", attention);
    addEventListener("online", online);
    return () => {
      for (const name of events) removeEventListener(name, attention);
      document.removeEventListener("visibilitychange", attention);
      removeEventListener("online", online);
    };
  }, [session]);
}

/** Moves the focus along with the view, unless something in it has taken the focus by itself. */
function useFocusInView(route: Route): void {
  const place = href(route);
  const first = useRef(place);
  useEffect(() => {
    const main = document.getElementById("main");
    if (place === first.current || main?.contains(document.activeElement)) return;
    first.current = "";
    if (place !== href({ view: "home" })) main?.focus();
  }, [place]);
}

/** The skip link must not change the address: the part after "#" is the route. */
function focusMain(event: { preventDefault: () => void }): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function step(session: Session, route: Route, by: 1 | -1): void {
  const ids = listedThreads(session.chat.get(), "").map(({ conversationId }) => conversationId);
  const at = route.view === "conversation" ? ids.indexOf(route.conversationId) : -1;
  const next = ids[at === -1 ? 0 : at + by];
  if (next) go({ view: "conversation", conversationId: next });
}
